//! The kernel program and the interfaces that it is attached to.

use super::XdpMode;
use super::error::XdpError;
use super::maps::{missing, missing_is_fine};
use super::pin::{self, Pin, ensure_bpffs};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use xdp_redirect::{
    Frontend, INTERFACES, InterfaceKind, InterfaceSlot, PROGRAM, PortRange, SLOTS_MAX,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));

/// How an interface came to have the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// It had none before.
    New,
    /// That of an earlier daemon was replaced, without a gap.
    TakenOver,
    /// It had ours already; only its slot or kind was noted.
    Kept,
}

/// The kernel program: loaded once, attached to many interfaces.
#[derive(Debug)]
pub struct Redirect {
    pub(super) kernel: Ebpf,
    directory: PathBuf,
    /// By interface index. The file keeps a link attached, this only while we run.
    attached: BTreeMap<u32, FdLink>,
    /// What the maps of the same names hold; nobody else writes them.
    pub(super) frontends: BTreeSet<Frontend>,
    pub(super) egress: BTreeMap<IpAddr, PortRange>,
}

impl Redirect {
    /// Loads the program; attachments are kept in `directory`, in a BPF file system.
    ///
    /// Its maps are new and empty: those of an earlier daemon, whatever their layout, live as long
    /// as its program is attached somewhere.
    ///
    /// Attachments to interfaces that are gone are forgotten.
    ///
    /// # Errors
    /// No BPF file system; the kernel refuses the program (its own words are in the error).
    pub fn load(directory: &Path) -> Result<Self, XdpError> {
        ensure_bpffs(directory)?;
        for pin in pin::pins(directory)? {
            if interface_name(pin.index)?.is_none() {
                pin::remove(&directory.join(pin.file_name()))?;
            }
        }
        let failed = |error: &dyn std::error::Error| XdpError::caused("kernel program", error);
        let mut kernel = EbpfLoader::new()
            .load(OBJECT)
            .map_err(|error| failed(&error))?;
        let program = xdp_program(&mut kernel)?;
        program.load().map_err(|error| failed(&error))?;
        Ok(Self {
            kernel,
            directory: directory.to_owned(),
            attached: BTreeMap::new(),
            frontends: BTreeSet::new(),
            egress: BTreeMap::new(),
        })
    }

    /// Attaches the program to an interface, or takes over where an earlier daemon attached it.
    ///
    /// From then on the interface's frames are dropped until its slot has a socket.
    ///
    /// # Errors
    /// The slot is too large; the interface is gone, has somebody else's program, or has ours in
    /// the other mode; the kernel cannot attach by a link.
    pub fn attach(
        &mut self,
        name: &str,
        index: u32,
        slot: u32,
        kind: InterfaceKind,
        mode: XdpMode,
    ) -> Result<Attachment, XdpError> {
        if slot >= SLOTS_MAX {
            return Err(XdpError::new(
                name,
                format!("expected a slot below {SLOTS_MAX}, found {slot}"),
            ));
        }
        let before = self.pin_of(index)?;
        if let Some(before) = &before
            && before.mode != mode
        {
            return Err(XdpError::new(
                name,
                format!(
                    "expected XDP mode {}, found it attached in mode {}: detach it first \
                     (remove {}), which opens the interface for a moment",
                    mode.key(),
                    before.mode.key(),
                    self.directory.join(before.file_name()).display()
                ),
            ));
        }
        // Before the program can see a frame of it: an unknown interface loses every frame.
        self.interfaces()?
            .insert(index, InterfaceSlot::new(slot, kind).words(), 0)
            .map_err(|error| XdpError::caused(INTERFACES, &error))?;
        if self.attached.contains_key(&index) {
            return Ok(Attachment::Kept);
        }
        let pin = Pin {
            name: name.to_owned(),
            index,
            mode,
        };
        let attachment = match before {
            Some(before) if self.take_over(&before, &pin)? => Attachment::TakenOver,
            _ => {
                self.attach_new(&pin)?;
                Attachment::New
            }
        };
        Ok(attachment)
    }

    /// Detaches the program from an interface: only when the endpoint is removed, because its
    /// frames then go to the host's stack. Nothing happens when it was not attached.
    ///
    /// # Errors
    /// The attachment's file cannot be removed.
    pub fn detach(&mut self, index: u32) -> Result<(), XdpError> {
        if let Some(pin) = self.pin_of(index)? {
            pin::remove(&self.directory.join(pin.file_name()))?;
        }
        self.attached.remove(&index);
        missing_is_fine(INTERFACES, self.interfaces()?.remove(&index))
    }

    /// Attachments of an earlier daemon that this one has not taken over, whose interfaces still
    /// exist. Their frames are dropped.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn unclaimed(&self) -> Result<Vec<Pin>, XdpError> {
        let mut pins = pin::pins(&self.directory)?;
        pins.retain(|pin| !self.attached.contains_key(&pin.index));
        Ok(pins)
    }

    fn pin_of(&self, index: u32) -> Result<Option<Pin>, XdpError> {
        Ok(pin::pins(&self.directory)?
            .into_iter()
            .find(|pin| pin.index == index))
    }

    /// Replaces the program of an attachment by ours; false when its interface is gone.
    fn take_over(&mut self, before: &Pin, pin: &Pin) -> Result<bool, XdpError> {
        let path = self.directory.join(before.file_name());
        let failed = |error: &dyn std::error::Error| XdpError::caused(path.display(), error);
        let link = PinnedLink::from_pin(&path).map_err(|error| failed(&error))?;
        let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| failed(&error))?;
        let program = xdp_program(&mut self.kernel)?;
        let replaced = match program.attach_to_link(link) {
            Ok(replaced) => replaced,
            Err(error) if errno(&error) == Some(Errno::NOLINK) => {
                pin::remove(&path)?;
                return Ok(false);
            }
            Err(error) => return Err(failed(&error)),
        };
        let link = program
            .take_link(replaced)
            .map_err(|error| failed(&error))?;
        let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
        // An interface may have been renamed since.
        fs::rename(&path, self.directory.join(pin.file_name())).map_err(|error| failed(&error))?;
        self.attached.insert(pin.index, link);
        Ok(true)
    }

    /// Attaches the program to an interface that has none.
    fn attach_new(&mut self, pin: &Pin) -> Result<(), XdpError> {
        let program = xdp_program(&mut self.kernel)?;
        let attached = program
            .attach_to_if_index(pin.index, pin.mode.flags())
            .map_err(|error| refused(pin, &error))?;
        let link = program
            .take_link(attached)
            .map_err(|error| XdpError::caused(&pin.name, &error))?;
        // aya falls back to an attachment without a link, which would end with this process or be
        // replaced by anybody.
        let link = FdLink::try_from(link).map_err(|_| {
            XdpError::new(
                &pin.name,
                format!(
                    "expected the kernel to attach by a link, found that it would not: run \
                     `ip link set dev {} xdp off`, and see the kernel's log",
                    pin.name
                ),
            )
        })?;
        let path = self.directory.join(pin.file_name());
        let link = link
            .pin(&path)
            .map_err(|error| XdpError::caused(path.display(), &error))?;
        self.attached.insert(pin.index, link.into());
        Ok(())
    }
}

/// Says in plain words why the kernel would not attach.
fn refused(pin: &Pin, error: &ProgramError) -> XdpError {
    let hint = match errno(error) {
        Some(Errno::BUSY | Errno::EXIST) => {
            "another XDP program is attached (`bpftool net show` names it)"
        }
        Some(Errno::RANGE) => "the interface's MTU is too large for this mode",
        Some(Errno::NODEV) => "the interface is gone",
        Some(Errno::OPNOTSUPP) => "its driver has no native XDP: use mode generic",
        Some(Errno::PERM) => "CAP_NET_ADMIN and CAP_BPF are needed",
        _ => return XdpError::caused(&pin.name, error),
    };
    XdpError::new(
        &pin.name,
        format!("attaching in mode {}: {hint}", pin.mode.key()),
    )
}

/// The kernel's error number behind an error, if there is one.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Errno::from_io_error(error);
        }
        cause = error.source();
    }
    None
}

fn xdp_program(kernel: &mut Ebpf) -> Result<&mut Xdp, XdpError> {
    let program = kernel
        .program_mut(PROGRAM)
        .ok_or_else(|| missing(PROGRAM))?;
    program
        .try_into()
        .map_err(|error: ProgramError| XdpError::caused(PROGRAM, &error))
}

/// The present name of an interface; None when it is gone.
fn interface_name(index: u32) -> Result<Option<String>, XdpError> {
    let failed = |error: io::Error| XdpError::caused(format!("interface {index}"), &error);
    let socket = UnixDatagram::unbound().map_err(failed)?;
    match index_to_name(&socket, index) {
        Ok(name) => Ok(Some(name)),
        Err(Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}
