//! Which XDP mode suits this kernel: tried at the start, on a pair of interfaces of its own.
//!
//! A pod's stack hands on segments of 64 KB where it may. Whether they cross whole or are cut up
//! before the program sees them depends on kernel and mode, and matters more than all else.

use crate::config::XdpChoice;
use crate::rings::{Frame, FreeFrames, PacketSender, Socket, Umem};
use crate::xdp::{InterfaceKind, Redirect, XdpMode};
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The end that sends, and the end that the program is attached to.
const SENDING_END: &str = "pc_try0";
const RECEIVING_END: &str = "pc_try1";
/// Slot of the trial: no other is taken yet.
const SLOT: u32 = 0;
const DEVICE_MTU: u32 = 65_535;
/// Bytes of a large packet, and of its segments on a path of 1500.
const LARGE: usize = 61_440;
const SEGMENT: u16 = 1448;
/// Bytes of a small packet.
const SMALL: usize = 64;
/// Packets that are sent before they are fetched.
const BURST: usize = 8;
/// The best of these counts: the others were disturbed by somebody.
const SLICES: usize = 6;
const SLICE: Duration = Duration::from_millis(4);
/// All of it ends by then.
const TRIAL_MAX: Duration = Duration::from_millis(900);
/// What native mode must reach of generic mode's figure for large packets, and for small ones.
const LARGE_LEAST: f64 = 0.9;
const SMALL_LEAST: f64 = 1.05;

/// What one core got through in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Of segments of 60 KB.
    pub bytes_per_second: f64,
    /// Of 64 bytes.
    pub packets_per_second: f64,
}

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Behind the driver.
    pub generic: Rates,
    /// In the driver.
    pub native: Rates,
}

/// The mode in force, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Where the program runs.
    pub mode: XdpMode,
    /// For people.
    pub reason: String,
    /// The figures, where it was tried.
    pub trial: Option<Trial>,
}

/// Decides: by the settings, by what is attached already, or by trying.
#[must_use]
pub fn decide(choice: XdpChoice, redirect: &mut Redirect, umem: &Arc<Umem>) -> Decision {
    let of = |mode, reason: &str| Decision {
        mode,
        reason: reason.into(),
        trial: None,
    };
    match choice {
        XdpChoice::Generic => return of(XdpMode::Generic, "set"),
        XdpChoice::Native => return of(XdpMode::Native, "set"),
        XdpChoice::Auto => {}
    }
    // What is attached is taken over without a gap only in the same mode.
    if let Some(pin) = redirect
        .unclaimed()
        .ok()
        .and_then(|pins| pins.first().cloned())
    {
        return of(pin.mode, "kept: interfaces are attached so");
    }
    let tried = try_both(redirect, umem);
    remove();
    match tried {
        Ok(trial) => trial.decision(),
        Err(why) => of(
            XdpMode::Generic,
            &format!("the default, could not be tried: {why}"),
        ),
    }
}

/// Takes away what a daemon left that was killed while it tried.
pub fn remove() {
    if fs::exists(format!("/sys/class/net/{SENDING_END}")).unwrap_or(false) {
        // What is left would only be found in the way by the next trial, which says so.
        let _ = ip(&["link", "del", SENDING_END]);
    }
}

impl Trial {
    fn decision(self) -> Decision {
        let Self { generic, native } = self;
        let is_large_kept = native.bytes_per_second >= LARGE_LEAST * generic.bytes_per_second;
        let is_small_faster = native.packets_per_second >= SMALL_LEAST * generic.packets_per_second;
        let mode = if is_large_kept && is_small_faster {
            XdpMode::Native
        } else {
            XdpMode::Generic
        };
        let reason = format!(
            "tried: segments of 60 KB {:.1} GB/s generic, {:.1} native; 64 bytes {:.2} M/s generic, \
             {:.2} native, a core",
            generic.bytes_per_second / 1e9,
            native.bytes_per_second / 1e9,
            generic.packets_per_second / 1e6,
            native.packets_per_second / 1e6,
        );
        Decision {
            mode,
            reason,
            trial: Some(self),
        }
    }
}

fn try_both(redirect: &mut Redirect, umem: &Arc<Umem>) -> Result<Trial, String> {
    let until = Instant::now() + TRIAL_MAX;
    let mtu = DEVICE_MTU.to_string();
    let words = [
        "link",
        "add",
        SENDING_END,
        "mtu",
        &mtu,
        "type",
        "veth",
        "peer",
        "name",
    ];
    ip(&[&words[..], &[RECEIVING_END, "mtu", &mtu]].concat())?;
    for end in [SENDING_END, RECEIVING_END] {
        // The stack must not answer, nor speak for itself; without IPv6 there is nothing to set.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
        ip(&["link", "set", end, "up"])?;
    }
    Ok(Trial {
        generic: try_mode(redirect, umem, XdpMode::Generic, until)?,
        native: try_mode(redirect, umem, XdpMode::Native, until)?,
    })
}

fn try_mode(
    redirect: &mut Redirect,
    umem: &Arc<Umem>,
    mode: XdpMode,
    until: Instant,
) -> Result<Rates, String> {
    let (from, to) = (index_of(SENDING_END)?, index_of(RECEIVING_END)?);
    redirect
        .attach(RECEIVING_END, to, SLOT, InterfaceKind::Whole, mode)
        .map_err(|error| error.to_string())?;
    let rates = try_attached(redirect, umem, from, until);
    // In any case: the slot and the file are the next one's.
    let _ = redirect.unset_socket(SLOT);
    redirect.detach(to).map_err(|error| error.to_string())?;
    rates
}

fn try_attached(
    redirect: &mut Redirect,
    umem: &Arc<Umem>,
    from: u32,
    until: Instant,
) -> Result<Rates, String> {
    let mut wire = Wire {
        sender: PacketSender::open(from).map_err(|error| error.to_string())?,
        socket: Socket::open(umem, RECEIVING_END, SLOT).map_err(|error| error.to_string())?,
        free: FreeFrames::new(umem),
        batch: Vec::with_capacity(512),
    };
    wire.socket.refill(&mut wire.free);
    redirect
        .set_socket(SLOT, &wire.socket)
        .map_err(|error| error.to_string())?;
    let (bytes_per_second, _) = wire.rates(LARGE, until)?;
    let (_, packets_per_second) = wire.rates(SMALL, until)?;
    Ok(Rates {
        bytes_per_second,
        packets_per_second,
    })
}

/// A pair of interfaces, with the sender and the receiver on one thread: what the kernel does in
/// between, it does on that thread's time.
struct Wire {
    sender: PacketSender,
    socket: Socket,
    free: FreeFrames,
    batch: Vec<Frame>,
}

impl Wire {
    /// Bytes and packets a second in the best slice.
    fn rates(&mut self, length: usize, until: Instant) -> Result<(f64, f64), String> {
        let (mut bytes_best, mut packets_best) = (0.0_f64, 0.0_f64);
        // The first slice makes the fill ring as deep as the traffic needs it.
        for _ in 0..=SLICES {
            if Instant::now() > until {
                return Err(format!("it takes longer than {TRIAL_MAX:?}"));
            }
            let (since, mut bytes, mut packets) = (Instant::now(), 0, 0);
            while since.elapsed() < SLICE {
                for _ in 0..BURST {
                    self.sender
                        .send(length, SEGMENT)
                        .map_err(|error| error.to_string())?;
                }
                while self.socket.receive(&mut self.free, &mut self.batch, 512) > 0 {
                    for frame in self.batch.drain(..) {
                        bytes += frame.length();
                        packets += 1;
                        self.free.release(frame);
                    }
                }
                self.socket.refill(&mut self.free);
            }
            let seconds = since.elapsed().as_secs_f64();
            bytes_best = bytes_best.max(bytes as f64 / seconds);
            packets_best = packets_best.max(f64::from(packets) / seconds);
        }
        if packets_best == 0.0 {
            return Err(format!("of packets of {length} bytes none arrived"));
        }
        Ok((bytes_best, packets_best))
    }
}

fn index_of(interface: &str) -> Result<u32, String> {
    let path = format!("/sys/class/net/{interface}/ifindex");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    text.trim()
        .parse()
        .map_err(|error| format!("{path}: {error}"))
}

fn ip(words: &[&str]) -> Result<(), String> {
    let line = format!("ip {}", words.join(" "));
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(generic: (f64, f64), native: (f64, f64)) -> Trial {
        let rates = |(bytes_per_second, packets_per_second)| Rates {
            bytes_per_second,
            packets_per_second,
        };
        Trial {
            generic: rates(generic),
            native: rates(native),
        }
    }

    #[test]
    fn native_mode_is_taken_only_where_it_keeps_segments_whole_and_is_faster() {
        let modes = [
            trial((9e9, 1e6), (1e9, 2e6)),
            trial((9e9, 1e6), (9e9, 1e6)),
            trial((9e9, 1e6), (8.5e9, 1.2e6)),
        ]
        .map(|trial| trial.decision().mode);
        assert_eq!(modes, [XdpMode::Generic, XdpMode::Generic, XdpMode::Native]);
    }

    #[test]
    fn the_reason_has_the_figures() {
        let decision = trial((9e9, 1.5e6), (1e9, 1.6e6)).decision();
        let expected = "tried: segments of 60 KB 9.0 GB/s generic, 1.0 native; 64 bytes 1.50 M/s \
                        generic, 1.60 native, a core";
        assert_eq!(decision.reason, expected);
    }
}
