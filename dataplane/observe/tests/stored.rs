//! Packing a record loses nothing of it.

mod records;

use portcullis_observe::Stored;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_unpacked_is_what_was_packed(record in records::record(), time in records::time()) {
        let stored = Stored::new(time, &record, 7);
        prop_assert_eq!(stored.record(record.generation), record);
        prop_assert_eq!(stored.time(), time);
    }
}
