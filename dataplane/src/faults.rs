//! What failed in the daemon that no document is to blame for: each fault once, and only so many.

/// Faults that are kept. The first ones tell most: later ones tend to follow from them.
const FAULTS_MAX: usize = 16;

/// The faults since the start, in the order in which they came first.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes a fault, unless it is there already or the list is full.
    pub fn add(&mut self, fault: String) {
        if self.0.len() < FAULTS_MAX && !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    /// All that are kept.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_repeats_is_listed_once() {
        let mut faults = Faults::default();
        for fault in ["no link", "no route", "no link"] {
            faults.add(fault.to_owned());
        }
        assert_eq!(faults.all(), ["no link", "no route"]);
    }

    #[test]
    fn ever_new_faults_fill_the_list_and_no_more() {
        let mut faults = Faults::default();
        for number in 0..100 {
            faults.add(format!("fault {number}"));
        }
        assert_eq!(faults.all().len(), FAULTS_MAX);
        assert_eq!(faults.all()[0], "fault 0");
    }
}
