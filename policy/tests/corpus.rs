//! Replays the fuzzer's seeds and findings, without the fuzzer.

use portcullis_policy::{
    Compat, Generation, IdentityAllocator, NodeFacts, Settings, compile, parse_documents,
};
use std::path::PathBuf;

#[test]
fn no_file_of_the_corpus_makes_us_panic() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/document");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("a file").path();
        let bytes = std::fs::read(&path).expect("bytes");
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        for compat in [Compat::Portcullis, Compat::Cilium] {
            let settings = Settings {
                compat,
                ..Settings::default()
            };
            let name = path.display().to_string();
            match parse_documents(&name, text, &settings) {
                Ok(documents) => {
                    let mut identities = IdentityAllocator::new();
                    let facts = NodeFacts::default();
                    let _ = compile(
                        &documents,
                        &facts,
                        &settings,
                        &mut identities,
                        Generation(1),
                    );
                }
                Err(errors) => assert!(!errors.is_empty(), "{name}: a refusal says why"),
            }
        }
        read += 1;
    }
    assert!(read >= 15, "only {read} files were read");
}
