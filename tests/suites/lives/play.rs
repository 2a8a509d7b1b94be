//! One life: what its script says is done, and after each cut and each return every token is tried.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::bao::Primary;
use harness::bao::api::Api;
use harness::client::raw::{Ask, Reply};
use harness::host::login_request;
use harness::link::Flow;
use harness::{Context, Failure, Result, eventually, together};
use serde_json::{Value, json};

use crate::cast::{Basis, Token, Tokens};
use crate::causes::Tally;
use crate::host::{Host, WORKLOAD};
use crate::known::{Found, Known, Question, Rights};
use crate::place::{LOOK_UP, PROBES, Place, SECRETS, names_of};
use crate::script::{Act, Approach, Back, Outage, Policy, Script, Use};

/// How long the primary may take over what hangs on a token that was revoked.
const CASCADE: Duration = Duration::from_secs(60);

/// A life in play.
pub(crate) struct Life<'a> {
    pub(crate) primary: &'a Primary,
    pub(crate) tally: &'a Tally,
    pub(crate) place: Place,
    pub(crate) host: Host,
    pub(crate) tokens: Tokens,
    /// How many outages there have been.
    pub(crate) outage: usize,
    /// In an outage, what the primary said when it began.
    pub(crate) known: Option<Known>,
    /// Secrets that were written through the socket since the last pass.
    pub(crate) written: BTreeSet<usize>,
    /// No pass has ended since the last outage.
    pub(crate) at_once: bool,
    /// The role was changed in this life: what may be created is not what it was.
    pub(crate) role_changed: bool,
    /// Outages that the script made.
    outages: BTreeSet<String>,
    trace: Vec<String>,
}

impl<'a> Life<'a> {
    pub(crate) async fn begin(
        primary: &'a Primary,
        tally: &'a Tally,
        mark: &str,
        script: &Script,
    ) -> Result<Life<'a>> {
        let place = Place::make(primary, mark, script.namespaced).await?;
        let host = Host::start(primary, &place, script).await?;
        Ok(Life {
            primary,
            tally,
            place,
            host,
            tokens: Tokens::default(),
            outage: 0,
            known: None,
            written: BTreeSet::new(),
            at_once: false,
            role_changed: false,
            outages: BTreeSet::new(),
            trace: Vec::new(),
        })
    }

    /// What happened so far.
    pub(crate) fn told(&self) -> String {
        self.trace.join("\n")
    }

    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.trace.push(line.into());
    }

    /// Whether Holdover took a busy machine's delay for an outage: then nothing is as the script has it.
    pub(crate) async fn is_disturbed(&self) -> bool {
        let last = self.host.last_outage().await.ok().flatten();
        last.is_some_and(|id| !self.outages.contains(&id))
    }

    pub(crate) async fn run(&mut self, script: &Script) -> Result<()> {
        self.assemble().await?;
        let last = script.outages.len();
        for (nr, outage) in script.outages.iter().enumerate() {
            self.lead_to(outage).await?;
            self.cut(outage.cut).await?;
            self.try_all("after the cut").await?;
            for what in &outage.within {
                self.make_use(*what).await?;
            }
            self.try_all("in the outage").await?;
            if nr + 1 == last && !script.returns {
                break;
            }
            for change in &outage.behind {
                self.change(*change).await?;
            }
            self.come_back(outage.back).await?;
            let next = script.outages.get(nr + 1).map(|next| next.approach);
            if next != Some(Approach::AtOnce) {
                self.try_following().await?;
            }
        }
        if script.returns {
            self.revoked_at_the_primary().await?;
        }
        Ok(())
    }

    /// The tokens that there are at first: of every kind, and all but one used through Holdover.
    async fn assemble(&mut self) -> Result<()> {
        let of = |policies: &[Policy]| {
            let names: Vec<_> = policies
                .iter()
                .map(|policy| self.place.policy(*policy))
                .collect();
            json!({ "policies": names, "ttl": "2h" })
        };
        let (plain, maker) = (
            of(&[Policy::Base, Policy::Extra]),
            of(&[Policy::Base, Policy::Maker]),
        );
        let (stranger, base) = (of(&[Policy::Base]), of(&[Policy::Base]));
        let root = self.place.root.clone();
        for (name, body) in [("plain", plain), ("maker", maker), ("stranger", stranger)] {
            let made = root.post("auth/token/create", &body).await?.ok()?;
            let names = names_of(&made["auth"])?;
            self.tokens.0.push(Token::new(name, Basis::Brought, names));
        }
        let parent = self.api(&self.tokens.0[1].there);
        let made = parent.post("auth/token/create", &base).await?.ok()?;
        let mut unseen = Token::new(
            "child of maker, unseen",
            Basis::Brought,
            names_of(&made["auth"])?,
        );
        unseen.parent = Some(1);
        self.tokens.0.push(unseen);
        let mut foreign = Token::new("foreign", Basis::Brought, self.place.foreign_token().await?);
        foreign.foreign = true;
        self.tokens.0.push(foreign);
        for nr in (0..self.tokens.0.len()).filter(|nr| *nr != 2) {
            self.use_token(nr).await?;
        }
        let beacon = login_body(&self.place.beacon);
        eventually(CASCADE, "the beacon's login", async || {
            let reply = self.host.write("auth/approle/login", "", &beacon).await;
            match reply.map_err(|failure| failure.to_string())? {
                reply if reply.status == 200 => Ok(()),
                reply => Err(reply.text()),
            }
        })
        .await?;
        for what in [Use::LogIn, Use::LogInByAppRole, Use::LogInAsUser] {
            self.first(what).await?;
        }
        self.pass().await
    }

    /// Makes a use until it gave a token: what the outages go by is told, not lost on a busy machine.
    async fn first(&mut self, what: Use) -> Result<()> {
        let before = self.tokens.0.len();
        let named = format!("the first {what:?}");
        eventually(CASCADE, &named, async || {
            self.make_use(what)
                .await
                .map_err(|failure| failure.to_string())?;
            match self.tokens.0.len() > before {
                true => Ok(()),
                false => Err("no token".to_owned()),
            }
        })
        .await
    }

    /// A client of the primary, in the namespace.
    pub(crate) fn api(&self, token: &str) -> Api {
        self.primary.api(token).in_namespace(&self.place.namespace)
    }

    async fn lead_to(&mut self, outage: &Outage) -> Result<()> {
        if outage.approach == Approach::AtOnce && !outage.before.is_empty() {
            self.quiet().await?;
        }
        for act in &outage.before {
            match act {
                Act::There(change) => self.change(*change).await?,
                Act::Here(what) => self.make_use(*what).await?,
            }
        }
        if outage.approach == Approach::Pass {
            self.pass().await?;
        }
        for what in &outage.told {
            self.make_use(*what).await?;
        }
        match self.is_disturbed().await {
            true => Err(Failure::new("an outage that nobody made")),
            false => Ok(()),
        }
    }

    /// Waits for a pass: everything is known as it is now.
    async fn pass(&mut self) -> Result<()> {
        self.quiet().await?;
        let tokens = self
            .tokens
            .0
            .iter()
            .filter(|token| token.learned && !token.is_replicas());
        let accessors: Vec<_> = tokens.map(|token| token.accessors.0.as_str()).collect();
        self.host.passed(&self.place, &accessors).await?;
        self.note("-- a pass has ended");
        self.place.seen();
        self.written.clear();
        self.at_once = false;
        for token in &mut self.tokens.0 {
            token.refused = false;
            token.proved = true;
            token.told_since = false;
            token.stored = token.learned;
        }
        Ok(())
    }

    /// Waits until all is dead at the primary that hangs on what was revoked, here or there.
    pub(crate) async fn quiet(&self) -> Result<()> {
        for nr in 0..self.tokens.0.len() {
            if self.tokens.is_dead_there(nr) || self.tokens.may_be_dead(nr) {
                self.ends_there(nr).await?;
            }
        }
        Ok(())
    }

    /// The same for what was revoked there: Holdover may not have told the primary of the rest yet.
    async fn quiet_there(&self) -> Result<()> {
        for nr in 0..self.tokens.0.len() {
            if self.tokens.is_dead_there(nr) {
                self.ends_there(nr).await?;
            }
        }
        Ok(())
    }

    /// Waits until the primary refuses a token: it ends what hangs on a revoked one in the background.
    async fn ends_there(&self, nr: usize) -> Result<()> {
        let token = &self.tokens.0[nr];
        let api = self.api(&token.there);
        let what = format!("the end of token {nr} ({}) at the primary", token.name);
        let waited = eventually(CASCADE, &what, async || {
            match api.get("auth/token/lookup-self").await {
                Ok(answer) if answer.status == 403 => Ok(()),
                Ok(answer) => Err(answer.body.to_string()),
                Err(failure) => Err(failure.to_string()),
            }
        });
        waited
            .await
            .map_err(|failure| self.host.daemon.failure(failure))
    }

    async fn cut(&mut self, flow: Flow) -> Result<()> {
        self.note(format!(
            "== outage {}: {flow:?}{}",
            self.outage,
            if self.at_once { ", at once" } else { "" }
        ));
        self.host.cut(flow).await?;
        self.outages.extend(self.host.last_outage().await?);
        self.known = Some(self.snapshot().await?);
        Ok(())
    }

    /// What the primary says now, of every token. What the replica issued in an outage that is over is also held against
    /// what the primary would have issued when it ended.
    async fn snapshot(&self) -> Result<Known> {
        self.quiet_there().await?;
        let rights = self.tokens.0.iter().map(|token| async move {
            let rights = Rights::of(&self.api(&token.there), &self.place).await?;
            match &token.settled {
                None => Ok(rights),
                Some(None) => Ok(Rights::default()),
                Some(Some(settled)) => {
                    Ok(rights.and(&Rights::of(&self.api(settled), &self.place).await?))
                }
            }
        });
        Ok(Known {
            rights: together(rights).await?,
            values: self
                .place
                .secrets
                .iter()
                .map(|one| one.known.clone())
                .collect(),
            before: None,
        })
    }

    /// Has the primary make again, as of now, what the replica's tokens rest on.
    async fn settle(&mut self) -> Result<()> {
        for nr in 0..self.tokens.0.len() {
            let token = &self.tokens.0[nr];
            if !token.is_replicas() || token.settled.is_some() {
                continue;
            }
            let (status, auth) = match self.tokens.origin(nr) {
                Basis::Attested => self.mint().await?,
                Basis::AppRole => self.log_in_there().await?,
                // It hangs on a token that is tried itself.
                Basis::Brought | Basis::Of(_) => continue,
            };
            let made = match status {
                200 => Some(names_of(&auth)?.0),
                _ => None,
            };
            self.tokens.0[nr].settled = Some(made);
        }
        Ok(())
    }

    /// What the primary makes of the workload's role.
    pub(crate) async fn mint(&self) -> Result<(u16, Value)> {
        let path = format!("auth/token/create/{}", self.place.role());
        let answer = self.place.root.post(&path, &json!({})).await?;
        Ok((answer.status, answer.body["auth"].clone()))
    }

    pub(crate) async fn log_in_there(&self) -> Result<(u16, Value)> {
        let body = login_body(&self.place.ci);
        let answer = self.api("").post("auth/approle/login", &body).await?;
        Ok((answer.status, answer.body["auth"].clone()))
    }

    /// Tries every token on everything in an outage.
    async fn try_all(&mut self, when: &str) -> Result<()> {
        let Some(known) = self.known.clone() else {
            return Err(Failure::new("no outage"));
        };
        for nr in 0..self.tokens.0.len() {
            for probe in 0..PROBES {
                self.try_one(&known, nr, probe, when).await?;
            }
        }
        Ok(())
    }

    /// Tries at once, in an outage, what Holdover was told is dead, and what is dead with it.
    pub(crate) async fn try_dead(&mut self) -> Result<()> {
        let Some(known) = self.known.clone() else {
            return Ok(());
        };
        for nr in (0..self.tokens.0.len()).rev() {
            if self.tokens.is_dead_here(nr) {
                self.try_one(&known, nr, 0, "at once").await?;
            }
        }
        Ok(())
    }

    async fn try_one(&mut self, known: &Known, nr: usize, probe: usize, when: &str) -> Result<()> {
        let Some(question) = self.question(nr, probe) else {
            return Ok(());
        };
        let path = self.place.probe(probe);
        let reply = self.host.read(&path, &self.tokens.0[nr].here).await?;
        if reply.source() != Some("replica") {
            return Err(self.violation(
                when,
                nr,
                &path,
                &reply,
                "the primary answers in an outage",
            ));
        }
        match known.judge(&question, &reply) {
            Ok(found) => self.count(&found),
            Err(wrong) => return Err(self.violation(when, nr, &path, &reply, &wrong)),
        }
        Ok(())
    }

    /// How a token's request is to be judged; none where nobody can tell.
    pub(crate) fn question(&self, nr: usize, probe: usize) -> Option<Question<'_>> {
        let (token, dead) = (&self.tokens.0[nr], self.tokens.is_dead_here(nr));
        // One above it was revoked after the last pass, and Holdover does not know that it is above it.
        if !dead && self.tokens.told_since(nr) {
            return None;
        }
        Some(Question {
            nr,
            token,
            probe,
            dead,
            loosely: token.outage.is_some_and(|outage| outage != self.outage),
            written: self.written.contains(&probe),
            changed: self.place.is_changed(probe),
            remounted: self.place.is_remounted(probe),
            proved: self.tokens.is_proved(nr),
            has_entity: self.tokens.has_entity(nr),
            at_once: self.at_once,
        })
    }

    pub(crate) fn count(&self, found: &Found) {
        match found {
            Found::Granted => self.tally.saw("granted", ""),
            Found::Refused => self.tally.saw("refused", ""),
            Found::Undecided(cause) => self.tally.saw("undecided", *cause),
            Found::NotCarriedOn => self.tally.saw("not carried on", ""),
        }
    }

    pub(crate) fn violation(
        &self,
        when: &str,
        nr: usize,
        asked: &str,
        reply: &Reply,
        wrong: &str,
    ) -> Failure {
        let token = &self.tokens.0[nr];
        self.host.daemon.failure(format!(
            "{when}: {asked} with token {nr} ({}, {}) {wrong}: {} by {:?}: {}\n{:?}",
            token.name,
            if token.is_replicas() {
                "the replica's"
            } else {
                "the primary's"
            },
            reply.status,
            reply.source(),
            reply.text(),
            token,
        ))
    }

    async fn come_back(&mut self, back: Back) -> Result<()> {
        self.note(format!("== back: {back:?}"));
        self.settle().await?;
        self.host.mend();
        match back {
            Back::Plain => {}
            Back::Restarted => self.host.restart()?,
            Back::CutAgain => self.cut_again().await?,
        }
        self.host.follows().await?;
        self.note("-- follows");
        self.known = None;
        self.outage += 1;
        self.at_once = true;
        for token in &mut self.tokens.0 {
            token.proved = false;
            token.told_since = false;
            token.stored = false;
        }
        Ok(())
    }

    /// The primary goes again while Holdover settles with it, or just after: it may have learned everything, or nothing.
    async fn cut_again(&mut self) -> Result<()> {
        self.host.settles().await?;
        self.host.cut(Flow::Refused).await?;
        self.outages.extend(self.host.last_outage().await?);
        self.note("-- cut again");
        let before = self.known.take().map(Box::new);
        let now = self.snapshot().await?;
        self.known = Some(Known { before, ..now });
        self.try_all("after a cut while settling").await?;
        self.host.mend();
        Ok(())
    }

    /// Tries every token while the primary is in charge: nothing is granted that it does not grant.
    async fn try_following(&mut self) -> Result<()> {
        self.quiet().await?;
        let known = self.snapshot().await?;
        for nr in 0..self.tokens.0.len() {
            for probe in 0..PROBES {
                let path = self.place.probe(probe);
                let reply = self.host.read(&path, &self.tokens.0[nr].here).await?;
                let wrong = self.wrong_while_following(&known, nr, probe, &reply);
                if let Some(wrong) = wrong {
                    return Err(self.violation("while following", nr, &path, &reply, &wrong));
                }
                self.tally
                    .saw("while following", reply.source().unwrap_or_default());
            }
            self.after_use(nr, true);
        }
        Ok(())
    }

    fn wrong_while_following(
        &self,
        known: &Known,
        nr: usize,
        probe: usize,
        reply: &Reply,
    ) -> Option<String> {
        let token = &self.tokens.0[nr];
        let mut question = self.question(nr, probe)?;
        question.loosely = true;
        // What the primary answers to its own token is its own answer.
        if reply.source() == Some("primary") && !token.is_replicas() && !question.dead {
            return None;
        }
        known.judge(&question, reply).err()
    }

    /// What Holdover acknowledged as revoked is dead at the primary by now.
    async fn revoked_at_the_primary(&mut self) -> Result<()> {
        self.quiet()
            .await
            .context("what was revoked here lives on at the primary")
    }

    /// Has a token used through Holdover, on everything.
    pub(crate) async fn use_token(&mut self, nr: usize) -> Result<()> {
        let mut taken = false;
        for probe in (0..SECRETS.len()).chain([LOOK_UP]) {
            let path = self.place.probe(probe);
            let reply = self.host.read(&path, &self.tokens.0[nr].here).await?;
            taken |= reply.status == 200 && reply.source() == Some("primary");
            let status = reply.status;
            if status == 403 && self.tokens.0[nr].revoked_there {
                self.tokens.0[nr].refused = true;
            }
        }
        self.after_use(nr, taken);
        Ok(())
    }

    fn after_use(&mut self, nr: usize, taken: bool) {
        let token = &mut self.tokens.0[nr];
        if taken && !token.foreign && !token.is_replicas() {
            token.learned = true;
            token.proved = true;
        }
    }

    /// The attested login, through the socket.
    pub(crate) async fn attested(&self) -> Result<Reply> {
        let ask: Ask = login_request(WORKLOAD);
        self.host.ask(ask, "").await
    }
}

/// A login by AppRole.
pub(crate) fn login_body(login: &crate::place::Login) -> Value {
    json!({ "role_id": login.role_id, "secret_id": login.secret_id })
}
