//! Quantities and names: one meaning per text, one text per meaning.

use proptest::prelude::*;

use zexio::model::names::{ArtifactName, EnvName, Hostname, ProcessName, ProjectId, RoutePath, Sha256};
use zexio::model::quantity::{Bytes, CpuShare, Span, Timestamp};

proptest! {
    #[test]
    fn a_quantity_reads_back_as_it_prints(bytes: u64, cpu in 1u32..=100_000, ms in 0u64..=86_400_000, at in 0u64..253_402_300_799_000) {
        prop_assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Ok(Bytes(bytes)));
        prop_assert_eq!(CpuShare::parse(&CpuShare(cpu).to_string()), Ok(CpuShare(cpu)));
        prop_assert_eq!(Span::parse(&Span(ms).to_string()), Ok(Span(ms)));
        prop_assert_eq!(Timestamp::parse(&Timestamp(at).to_string()), Ok(Timestamp(at)));
    }

    #[test]
    fn no_text_makes_a_quantity_panic(text in prop_oneof![any::<String>(), "[0-9]{0,25}[KMGTmshd%. -]{0,3}"]) {
        for shown in [Bytes::parse(&text).map(|b| b.to_string()), CpuShare::parse(&text).map(|c| c.to_string())].into_iter().flatten() {
            prop_assert!(!shown.is_empty());
        }
        if let Ok(span) = Span::parse(&text) {
            prop_assert!(span <= Span::seconds(86_400));
        }
        let _ = Timestamp::parse(&text);
    }

    /// What passes becomes paths, unit names, user names and lines of a Caddyfile.
    #[test]
    fn a_name_holds_nothing_that_means_something_elsewhere(text in prop_oneof![any::<String>(), "[a-zA-Z0-9./*_~:{}@ \\n-]{0,40}"]) {
        let safe = |raw: &str| !raw.is_empty() && !raw.contains(|c: char| c.is_whitespace() || c.is_control() || "{}\"'`\\$%#;&|<>()!@,:?=[]".contains(c));
        let parsed = [
            ProjectId::parse(&text).map(|name| name.to_string()),
            ProcessName::parse(&text).map(|name| name.to_string()),
            Hostname::parse(&text).map(|name| name.to_string()),
            RoutePath::parse(&text).map(|name| name.to_string()),
            ArtifactName::parse(&text).map(|name| name.to_string()),
            EnvName::parse(&text).map(|name| name.to_string()),
            Sha256::parse(&text).map(|name| name.to_string()),
        ];
        for name in parsed.into_iter().flatten() {
            prop_assert_eq!(&name, &text);
            prop_assert!(safe(&name), "{:?}", name);
        }
    }
}
