//! The parts of an event that go into the artifact's URL and version.

use super::{Bump, Flaw, Label, Problem};

/// The parts of an event that may go into a URL.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    /// The tag; for a workflow run, the tag or the branch.
    pub tag: Option<String>,
    pub sha: Option<String>,
    pub run: Option<String>,
}

impl Marks {
    /// Builds the artifact's URL from its template. Each mark stays within one path segment or one query value.
    ///
    /// # Errors
    /// The event lacks a mark, or the mark has characters that no tag needs.
    pub fn bump(&self, template: &str) -> Result<Bump, Problem> {
        let mut url = template.to_owned();
        for (name, mark) in [("tag", &self.tag), ("sha", &self.sha), ("run", &self.run)] {
            let place = format!("{{{name}}}");
            if !template.contains(&place) {
                continue;
            }
            let refused = |message: String| Problem::invalid(vec![Flaw::at(name, message)]);
            let mark =
                mark.as_deref().ok_or_else(|| refused(format!("the event has none, and the URL needs {place}")))?;
            if !is_mark(mark) {
                let shown: String = mark.chars().take(140).collect();
                let form = "1 to 128 of A-Z a-z 0-9 . _ - @ / +, and no part of it is . or ..";
                return Err(refused(format!("{place} is {form}; it is {shown:?}")));
            }
            url = url.replace(&place, &encoded(mark));
        }
        Ok(Bump { url: Some(url), file: None, sha256: None, version: self.version(template) })
    }

    /// Names the version by the mark that distinguishes the URL from others. If several runs can build the same URL,
    /// the run's number does.
    fn version(&self, template: &str) -> Option<Label> {
        let of_template = |name: &str, mark: &Option<String>| mark.clone().filter(|_| template.contains(name));
        let named = of_template("{sha}", &self.sha).or(of_template("{run}", &self.run));
        let what = of_template("{tag}", &self.tag).or_else(|| named.clone());
        let version = match (&self.run, what) {
            (Some(run), Some(tag)) if named.is_none() => format!("{tag} run {run}"),
            (Some(run), None) => format!("{:.12} run {run}", self.sha.as_deref().unwrap_or_default()),
            (_, what) => what.or_else(|| self.tag.clone())?,
        };
        Label::try_from(version.trim().chars().take(Label::LONGEST).collect::<String>()).ok()
    }
}

fn is_mark(raw: &str) -> bool {
    (1..=128).contains(&raw.len())
        && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@/+".contains(&b))
        && raw.split('/').all(|part| !matches!(part, "." | ".."))
}

/// Encodes a mark as one segment. GitHub's URLs encode tags like this, and S3 reads a bare `+` as a space.
fn encoded(mark: &str) -> String {
    mark.replace('@', "%40").replace('/', "%2F").replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(tag: Option<&str>, sha: Option<&str>, run: Option<&str>) -> Marks {
        Marks { tag: tag.map(str::to_owned), sha: sha.map(str::to_owned), run: run.map(str::to_owned) }
    }

    fn built(template: &str, marks: &Marks) -> (String, String) {
        let bump = marks.bump(template).unwrap();
        (bump.url.unwrap(), bump.version.unwrap().as_str().to_owned())
    }

    #[test]
    fn a_mark_cannot_leave_its_place_in_the_url() {
        let template = "https://github.com/acme/shop/releases/download/{tag}/shop.tar.gz?v={tag}";
        let url = |tag: &str| built(template, &marks(Some(tag), None, None)).0;
        let whole = |tag: &str| format!("https://github.com/acme/shop/releases/download/{tag}/shop.tar.gz?v={tag}");
        assert_eq!(url("v1.2.3"), whole("v1.2.3"));
        assert_eq!(url("@acme/web@1.0.0"), whole("%40acme%2Fweb%401.0.0"));
        assert_eq!(url("v1.2.0+build.5"), whole("v1.2.0%2Bbuild.5"));
        assert_eq!(url(&"1".repeat(128)), whole(&"1".repeat(128)));
        let long = "1".repeat(129);
        for tag in
            ["", ".", "..", "v1/../../other", "v1/.", "../v1", "v1?x", "v1%2f..", "v1 ", "v1#", "{sha}", "vä", &long]
        {
            let refused = marks(Some(tag), None, None).bump(template).unwrap_err();
            assert_eq!(refused.status, 422, "{tag:?}");
            assert!(!refused.errors[0].message.contains("Some("), "{refused:?}");
        }
        let missing = Marks::default().bump(template).unwrap_err();
        assert!(missing.errors[0].message.contains("the event has none"), "{missing:?}");
    }

    #[test]
    fn a_version_tells_two_deliveries_of_one_url_apart() {
        let sha = "bcbb5ec396a2c0f828686f14fac9b80b780504f2";
        let run = marks(Some("main"), Some(sha), Some("31"));
        for (template, marks, version) in [
            ("https://x/{tag}.tgz", &marks(Some("web/v1.0.0"), None, None), "web/v1.0.0"),
            ("https://x/latest.tgz", &marks(Some("v2"), Some(sha), None), "v2"),
            ("https://x/latest.tgz", &run, "bcbb5ec396a2 run 31"),
            ("https://x/{tag}.tgz", &run, "main run 31"),
            ("https://x/{tag}-{run}.tgz", &run, "main"),
            ("https://x/{sha}.tgz", &run, sha),
            ("https://x/{run}.tgz", &run, "31"),
            ("https://x/{tag}.tgz", &marks(Some(&"1".repeat(100)), None, None), &"1".repeat(64)),
        ] {
            assert_eq!(built(template, marks).1, version, "{template}");
        }
    }
}
