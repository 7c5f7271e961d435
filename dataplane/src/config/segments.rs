//! Settings of history on disk.

use super::nat::duration;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const AGE_MIN: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Where records are kept beyond memory and restarts, how many and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SegmentsConfig {
    /// The directory; made when it is missing, for root alone.
    #[serde(deserialize_with = "directory")]
    pub directory: PathBuf,
    /// Mebibytes of all files together: the oldest go first.
    #[serde(default = "megabytes_default", deserialize_with = "megabytes")]
    pub max_megabytes: u32,
    /// After how long a file is deleted.
    #[serde(default = "age_default", deserialize_with = "age")]
    pub max_age: Duration,
}

const fn megabytes_default() -> u32 {
    1024
}

const fn age_default() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

fn directory<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let found = Value::deserialize(from)?;
    let path = found.as_str().map(PathBuf::from);
    path.filter(|path| path.is_absolute())
        .ok_or_else(|| D::Error::custom(format!("expected an absolute path, found {found}")))
}

fn megabytes<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let found = Value::deserialize(from)?;
    let megabytes = found.as_u64().and_then(|number| u32::try_from(number).ok());
    megabytes
        .filter(|megabytes| (16..=1 << 20).contains(megabytes))
        .ok_or_else(|| D::Error::custom(format!("expected 16 to 1048576, found {found}")))
}

fn age<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let found = Value::deserialize(from)?;
    let seconds = found
        .as_str()
        .and_then(|text| match text.strip_suffix('d') {
            Some(days) => duration(&format!("{days}h"))?.checked_mul(24),
            None => duration(text),
        });
    seconds
        .map(Duration::from_secs)
        .filter(|age| (AGE_MIN..=AGE_MAX).contains(age))
        .ok_or_else(|| {
            D::Error::custom(format!(
                "expected \"1m\" to \"366d\", such as \"7d\" or \"36h\", found {found}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn history_on_disk_is_off_until_a_directory_is_named() {
        assert_eq!(Config::default().observe_segments, None);
        let text = "observeSegments: {directory: /var/lib/portcullis/records}";
        let expected = SegmentsConfig {
            directory: "/var/lib/portcullis/records".into(),
            max_megabytes: 1024,
            max_age: Duration::from_secs(604_800),
        };
        let config = Config::parse("config.yaml", text).unwrap();
        assert_eq!(config.observe_segments, Some(expected));
        let text = "observeSegments: {directory: /a, maxMegabytes: 16, maxAge: 36h}";
        let expected = SegmentsConfig {
            directory: "/a".into(),
            max_megabytes: 16,
            max_age: Duration::from_secs(36 * 3600),
        };
        let config = Config::parse("config.yaml", text).unwrap();
        assert_eq!(config.observe_segments, Some(expected));
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (text, error) in [
            (
                "directory: records",
                "directory: expected an absolute path, found \"records\"",
            ),
            (
                "directory: /a, maxMegabytes: 1",
                "maxMegabytes: expected 16 to 1048576, found 1",
            ),
            (
                "directory: /a, maxAge: 5",
                "maxAge: expected \"1m\" to \"366d\", such as \"7d\" or \"36h\", found 5",
            ),
            (
                "directory: /a, maxAge: 1h2d",
                "maxAge: expected \"1m\" to \"366d\", such as \"7d\" or \"36h\", found \"1h2d\"",
            ),
        ] {
            let text = format!("observeSegments: {{{text}}}");
            let errors = Config::parse("config.yaml", &text).unwrap_err();
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let expected = format!("config.yaml, document 1, observeSegments.{error}");
            assert_eq!(texts, [expected]);
        }
        let errors = Config::parse("config.yaml", "observeSegments: {}").unwrap_err();
        let text = errors[0].to_string();
        assert!(text.contains("directory"), "{text}");
    }
}
