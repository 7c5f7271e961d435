//! Destinations that are running out of ports: told once a minute, shown while it lasts.

use portcullis_engine::CrowdedDestination;
use portcullis_policy::Protocol;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Destinations that are kept; the one that was noticed longest ago gives way.
const CROWDS_MAX: usize = 32;
/// A destination that lasts is told this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Unless it is noticed again, it is over after this.
const LASTS: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Crowd {
    place: CrowdedDestination,
    told: Instant,
    noticed: Instant,
}

/// What is running out of ports now.
#[derive(Debug, Default)]
pub struct Crowds(Vec<Crowd>);

impl Crowds {
    /// Takes note. Returns the warning, when it is time to tell it.
    pub fn note(&mut self, crowded: CrowdedDestination, now: Instant) -> Option<String> {
        self.0.retain(|crowd| now - crowd.noticed < LASTS);
        // Worse is news; better is seen when it is over.
        if let Some(crowd) = self
            .0
            .iter_mut()
            .find(|crowd| is_same(&crowd.place, &crowded))
        {
            crowd.noticed = now;
            let is_news = crowded.is_exhausted && !crowd.place.is_exhausted;
            crowd.place.is_exhausted |= crowded.is_exhausted;
            if !is_news && now - crowd.told < TELL_AGAIN {
                return None;
            }
            crowd.told = now;
            return Some(words(&crowd.place));
        }
        if self.0.len() == CROWDS_MAX {
            let oldest = (0..self.0.len()).min_by_key(|at| self.0[*at].noticed)?;
            self.0.swap_remove(oldest);
        }
        self.0.push(Crowd {
            place: crowded,
            told: now,
            noticed: now,
        });
        Some(words(&crowded))
    }

    /// Warnings about what lasts.
    #[must_use]
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        let lasting = self.0.iter().filter(|crowd| now - crowd.noticed < LASTS);
        lasting.map(|crowd| words(&crowd.place)).collect()
    }
}

fn is_same(one: &CrowdedDestination, other: &CrowdedDestination) -> bool {
    (one.egress, one.protocol, one.destination) == (other.egress, other.protocol, other.destination)
}

fn words(crowd: &CrowdedDestination) -> String {
    let (address, port) = crowd.destination;
    let destination = match Protocol::from_number(crowd.protocol) {
        Protocol::Icmp | Protocol::Icmpv6 => format!("ping {address}"),
        protocol => {
            let name = format!("{protocol:?}").to_uppercase();
            format!("{name} {}", SocketAddr::new(address, port))
        }
    };
    let state = if crowd.is_exhausted {
        "has no port left, new connections are dropped"
    } else {
        "has three quarters of its ports in use"
    };
    format!(
        "{} {state} towards {destination}: see `portcullis nat --usage`; more egress addresses help",
        crowd.egress
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(port: u16, is_exhausted: bool) -> CrowdedDestination {
        CrowdedDestination {
            egress: "192.0.2.7".parse().unwrap(),
            protocol: 6,
            destination: ("198.51.100.7".parse().unwrap(), port),
            is_exhausted,
        }
    }

    #[test]
    fn a_crowd_is_told_once_a_minute_and_when_it_gets_worse() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut crowds = Crowds::default();
        let warning = "192.0.2.7 has three quarters of its ports in use towards TCP \
                       198.51.100.7:443: see `portcullis nat --usage`; more egress addresses help";
        let told = crowds.note(crowd(443, false), after(0));
        assert_eq!(told.as_deref(), Some(warning));
        assert_eq!(crowds.note(crowd(443, false), after(30)), None);
        assert!(crowds.note(crowd(443, true), after(31)).is_some());
        assert_eq!(crowds.note(crowd(443, true), after(60)), None);
        assert!(crowds.note(crowd(443, true), after(91)).is_some());
        assert_eq!(crowds.warnings(after(100)).len(), 1);
        assert_eq!(crowds.warnings(after(200)), Vec::<String>::new());
    }

    #[test]
    fn ever_new_crowds_fill_the_list_and_no_more() {
        let now = Instant::now();
        let mut crowds = Crowds::default();
        for port in 0..1000 {
            crowds.note(crowd(port, false), now);
        }
        assert_eq!(crowds.warnings(now).len(), CROWDS_MAX);
    }
}
