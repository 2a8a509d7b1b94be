//! What must not be found, and where it is looked for.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::canary::Canaries;
use harness::client::raw::{Ask, Reply};
use harness::host::Host;
use harness::place;
use harness::{Context, Failure, Result};

/// What the operator put there: these do hold secrets, and Holdover wrote none of them.
const OPERATORS: [&str; 3] = ["role_id", "secret_id", "replica.key"];

/// The secrets that were used, and the things that Holdover said.
pub(crate) struct Evidence {
    canaries: Canaries,
    said: Vec<(String, Vec<u8>)>,
    tokens: usize,
}

impl Evidence {
    /// What is known before the story begins: planted values, the login, the key, the root token.
    pub(crate) fn of(host: &Host) -> Result<Evidence> {
        let mut canaries = host.world.canaries.clone();
        let etc = host.daemon.folder().join("etc");
        let secret_id = std::fs::read_to_string(etc.join("secret_id"))?;
        canaries.plant("secret_id", secret_id.trim().as_bytes())?;
        let key = std::fs::read_to_string(etc.join("replica.key"))?;
        canaries.plant("replica key", &unhex(key.trim())?)?;
        canaries.plant("root token", host.primary.root_token().as_bytes())?;
        Ok(Evidence {
            canaries,
            said: Vec::new(),
            tokens: 0,
        })
    }

    /// Remembers a secret of the story.
    pub(crate) fn plant(&mut self, name: &str, secret: &str) -> Result<()> {
        self.canaries.plant(name, secret.as_bytes())
    }

    /// Remembers an answer in which no secret may be: a refusal, a listing.
    pub(crate) fn heard(&mut self, what: &str, reply: &Reply) {
        let headers = format!("{:?}\n", reply.headers);
        let said = [headers.as_bytes(), reply.body.as_ref()].concat();
        self.said.push((what.to_owned(), said));
    }

    /// Runs every command and asks the admin socket for everything that tells of Holdover.
    pub(crate) async fn commands(&mut self, host: &Host) -> Result<()> {
        let commands: [&[&str]; 10] = [
            &["status"],
            &["status", "--json"],
            &["grants", "list"],
            &["grants", "list", "--json"],
            &["config", "check"],
            &["config", "policy"],
            &["config", "suggest"],
            &["config", "suggest", "--json"],
            &["coverage", "--all"],
            &["coverage", "--json"],
        ];
        for args in commands {
            let output = host.daemon.cli(args, Duration::from_secs(10)).await?;
            let said = [output.stdout, output.stderr].concat();
            self.said.push((args.join(" "), said.into_bytes()));
        }
        for path in ["/v1/status", "/v1/grants", "/v1/coverage", "/metrics"] {
            let reply = host.daemon.admin(&Ask::get(path)).await?;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            self.heard(path, &reply);
        }
        Ok(())
    }

    /// Every token that Holdover sent or was given: its own, the standing ones, those that it exchanged.
    pub(crate) fn what_crossed_the_wire(&mut self, host: &Host) -> Result<()> {
        let tap = host.tap()?;
        let all = [tap.sent(), tap.received()].concat();
        let mut tokens: Vec<String> = all.iter().flat_map(|bytes| tokens_in(bytes)).collect();
        tokens.sort();
        tokens.dedup();
        self.tokens = tokens.len();
        for (nr, token) in tokens.iter().enumerate() {
            self.plant(&format!("token {nr} on the wire"), token)?;
        }
        // Its own, the standing one, two logins and two leases' worth of looking up.
        match self.tokens {
            0..4 => Err(Failure::new(format!(
                "only {} tokens were seen on the wire",
                self.tokens
            ))),
            _ => Ok(()),
        }
    }

    /// Command line and environment, where any user may look.
    pub(crate) fn process(&self, host: &Host) -> Result<()> {
        let id = host.daemon.id()?;
        if place::is_root() {
            return self.canaries.search_process(id)?.clean();
        }
        // A process that guards its memory hides its environment from everybody but root.
        let line = PathBuf::from(format!("/proc/{id}/cmdline"));
        self.canaries.search(&[&line])?.clean()
    }

    /// Plants a secret where Holdover writes, and must find it there: otherwise a clean search proves nothing.
    pub(crate) fn search_is_not_blind(&self, host: &Host) -> Result<()> {
        let (_, password) = crate::secret(host)?;
        let forms = [
            password.clone(),
            STANDARD.encode(format!("x{password}")),
            password.bytes().map(|b| format!("{b:02x}")).collect(),
        ];
        for folder in ["state", "anchor", "run"] {
            for form in &forms {
                let planted = host.daemon.folder().join(folder).join("planted");
                std::fs::write(&planted, form)?;
                let seen = self.clean(host);
                std::fs::remove_file(&planted)?;
                match seen {
                    Err(leak) if leak.to_string().contains("planted") => {}
                    other => {
                        return Err(Failure::new(format!(
                            "a secret in {folder} went unseen: {other:?}"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// Searches every file of the host but the operator's own, and everything that Holdover said.
    pub(crate) fn clean(&self, host: &Host) -> Result<()> {
        let places = places(host)?;
        let paths: Vec<_> = places.iter().map(PathBuf::as_path).collect();
        let searched = self.canaries.search(&paths)?;
        searched.clean()?;
        for (what, said) in &self.said {
            self.canaries.search_bytes(what, said)?.clean()?;
        }
        let log = std::fs::read_to_string(host.daemon.log())?.to_lowercase();
        if !log.contains("debug") {
            return Err(Failure::new(
                "the log has no debug lines: nothing was proven",
            ));
        }
        eprintln!(
            "{} secrets and tokens looked for in {} files, {} bytes, and {} answers",
            self.canaries.count(),
            searched.files,
            searched.bytes,
            self.said.len()
        );
        Ok(())
    }
}

fn places(host: &Host) -> Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    for folder in [
        host.daemon.folder().to_owned(),
        host.daemon.folder().join("etc"),
    ] {
        for entry in std::fs::read_dir(&folder).context(folder.display())? {
            let entry = entry?;
            let name = entry.file_name();
            let skipped = OPERATORS.iter().any(|own| name == *own) || name == "etc";
            // The program itself is older than every secret.
            if !skipped && name != "holdover" {
                places.push(entry.path());
            }
        }
    }
    Ok(places)
}

/// Service tokens as the primary writes them: `s.` and 24 letters or digits.
fn tokens_in(bytes: &[u8]) -> Vec<String> {
    let boundary = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric());
    bytes
        .windows(26)
        .enumerate()
        .filter(|(at, window)| {
            window.starts_with(b"s.")
                && window.iter().skip(2).all(u8::is_ascii_alphanumeric)
                && boundary(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && boundary(bytes.get(at + 26))
        })
        .map(|(_, window)| String::from_utf8_lossy(window).into_owned())
        .collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
