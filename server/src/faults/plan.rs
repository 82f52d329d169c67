//! What `TESSERA_FAULT` asks for.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::{Rule, SyncPoint};

/// Faults to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The process ends at this sync, counted from 1; of one kind, or of all.
    pub(super) crash: Option<(Option<SyncPoint>, u64)>,
    pub(super) skipped: Vec<SyncPoint>,
    pub(super) broken: Vec<Rule>,
    /// The file that says what the device does not do.
    pub(super) device: Option<PathBuf>,
}

impl Plan {
    /// The plan that `text` describes: faults with commas between them.
    ///
    /// # Errors
    ///
    /// The word that is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            plan.add(word).ok_or_else(|| format!("there is no fault {word:?}"))?;
        }
        Ok(plan)
    }

    fn add(&mut self, word: &str) -> Option<()> {
        if let Some(number) = word.strip_prefix("crash-at:") {
            let (point, number) = match number.rsplit_once(':') {
                Some((point, number)) => (Some(SyncPoint::named(point)?), number),
                None => (None, number),
            };
            self.crash = Some((point, number.parse().ok()?));
        } else if let Some(point) = word.strip_prefix("skip-sync:") {
            self.skipped.push(SyncPoint::named(point)?);
        } else if let Some(file) = word.strip_prefix("eio:") {
            self.device = Some(file.into());
        } else {
            self.broken.push(Rule::named(word)?);
        }
        Some(())
    }
}

impl SyncPoint {
    /// All of them by name.
    const NAMES: [(&'static str, Self); 12] = [
        ("log-directory", Self::LogDirectory),
        ("segment", Self::Segment),
        ("segment-directory", Self::SegmentDirectory),
        ("group", Self::Group),
        ("tail", Self::Tail),
        ("manifest", Self::Manifest),
        ("manifest-directory", Self::ManifestDirectory),
        ("base", Self::Base),
        ("base-directory", Self::BaseDirectory),
        ("dump", Self::Dump),
        ("dump-directory", Self::DumpDirectory),
        ("aside-directory", Self::AsideDirectory),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(it, _)| *it == name).map(|&(_, point)| point)
    }
}

impl Rule {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "order-a" => Self::ProgramOrder,
            "order-c" => Self::OwnMailFirst,
            "torn" => Self::Cut,
            "stale-read" => Self::FreshReads,
            "early-read" => Self::HeldReads,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_their_names() {
        let plan = Plan::parse("crash-at:manifest-directory:2,skip-sync:base,order-a").unwrap();
        assert_eq!(plan.crash, Some((Some(SyncPoint::ManifestDirectory), 2)));
        assert_eq!(plan.skipped, [SyncPoint::Base]);
        assert_eq!(plan.broken, [Rule::ProgramOrder]);
        assert_eq!(Plan::parse("eio:/tmp/x").unwrap().device, Some("/tmp/x".into()));
        assert_eq!(Plan::parse("crash-at:17").unwrap().crash, Some((None, 17)));
        assert_eq!(Plan::parse(""), Ok(Plan::default()));
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for text in ["order-z", "crash-at:", "crash-at:nothing:1", "skip-sync:", "torn,torn?"] {
            assert!(Plan::parse(text).is_err(), "{text}");
        }
    }
}
