//! What a script asks for, carried out: at the primary by other hands, and through Holdover.

use harness::client::raw::Reply;
use harness::{Failure, Result};
use serde_json::{Value, json};

use crate::cast::{Basis, Token};
use crate::causes;
use crate::known::{Rights, policies};
use crate::place::{LOOK_UP, Mount, SECRETS, names_of};
use crate::play::{Life, login_body};
use crate::script::{Change, Kind, Pick, Policy, Use};

impl Life<'_> {
    /// Does something at the primary, of which Holdover is told nothing.
    pub(crate) async fn change(&mut self, change: Change) -> Result<()> {
        self.note(format!("at the primary: {change:?}"));
        self.tally.saw("at the primary", name_of(&change));
        match change {
            Change::Revoke(pick) => self.revoke_there(pick, "revoke").await,
            Change::RevokeByAccessor(pick) => self.revoke_there(pick, "revoke-accessor").await,
            Change::RevokeSparingChildren(pick) => self.revoke_there(pick, "revoke-orphan").await,
            Change::RevokeLogins => self.revoke_logins().await,
            Change::Write(policy, text) => self.place.write_policy(policy, text).await,
            Change::Delete(policy) => {
                let path = format!("sys/policies/acl/{}", self.place.policy(policy));
                self.place.root.delete(&path).await?.ok().map(drop)
            }
            Change::Entity { disabled } => self.place.set_entity(disabled).await.map(drop),
            Change::DeleteEntity => self.place.delete_entity().await,
            Change::Group { member } => self.place.set_group(member).await,
            Change::DeleteGroup => self.place.delete_group().await,
            Change::NarrowRole | Change::DeleteRole | Change::RestoreRole => {
                self.change_role(change).await
            }
            Change::DeleteAppRole => {
                let path = format!("auth/approle/role/{}", self.place.ci.name);
                self.place.root.delete(&path).await?.ok().map(drop)
            }
            Change::DestroySecretId => {
                let path = format!("auth/approle/role/{}/secret-id/destroy", self.place.ci.name);
                let body = json!({ "secret_id": self.place.ci.secret_id });
                // The role may be gone.
                self.place.root.post(&path, &body).await.map(drop)
            }
            Change::Secret(pick, act) => {
                self.place
                    .write_secret(pick.below(SECRETS.len()), act)
                    .await
            }
            Change::Unmount => self.place.unmount().await,
            Change::Remount => self.place.remount().await,
        }
    }

    async fn revoke_there(&mut self, pick: Pick, how: &str) -> Result<()> {
        let nr = pick.below(self.tokens.0.len());
        let token = &self.tokens.0[nr];
        // What stands for the replica's is nobody's to revoke; the foreign one is elsewhere.
        if token.is_replicas() || token.foreign || self.tokens.is_dead_there(nr) {
            self.note("    nothing to revoke");
            return Ok(());
        }
        let body = match how {
            "revoke-accessor" => json!({ "accessor": token.accessors.1 }),
            _ => json!({ "token": token.there }),
        };
        self.note(format!("    token {nr} ({})", self.tokens.0[nr].name));
        let answer = self
            .place
            .root
            .post(&format!("auth/token/{how}"), &body)
            .await?;
        // Holdover may just have revoked it there.
        if answer.status >= 500 {
            return Err(Failure::new(format!(
                "{how}: {}: {}",
                answer.status, answer.body
            )));
        }
        self.tokens.0[nr].revoked_there = true;
        if how == "revoke-orphan" {
            for token in self
                .tokens
                .0
                .iter_mut()
                .filter(|token| token.parent == Some(nr))
            {
                token.parent = None;
            }
        }
        Ok(())
    }

    async fn revoke_logins(&mut self) -> Result<()> {
        let (login, _) = self.place.user_login_request();
        let path = format!("sys/leases/revoke-prefix/{login}");
        self.place.root.write(&path, &json!({})).await?;
        for token in self
            .tokens
            .0
            .iter_mut()
            .filter(|token| token.name.starts_with("ann"))
        {
            token.revoked_there = true;
        }
        Ok(())
    }

    async fn change_role(&mut self, change: Change) -> Result<()> {
        self.role_changed = true;
        match change {
            Change::DeleteRole => {
                let path = format!("auth/token/roles/{}", self.place.role());
                self.place.root.delete(&path).await?.ok().map(drop)
            }
            Change::NarrowRole => self.place.write_role(false).await,
            _ => self.place.write_role(true).await,
        }
    }

    /// Does something through the socket, or as Holdover's operator.
    pub(crate) async fn make_use(&mut self, what: Use) -> Result<()> {
        self.note(format!("here: {what:?}"));
        match what {
            Use::LogIn => self.log_in(Basis::Attested).await,
            Use::LogInByAppRole => self.log_in(Basis::AppRole).await,
            Use::LogInAsUser => self.log_in_as_user().await,
            Use::Create(pick, kind) => self.create(self.maker(pick), kind).await,
            Use::Read(pick) => {
                let nr = pick.below(self.tokens.0.len());
                self.note(format!("    token {nr} ({})", self.tokens.0[nr].name));
                self.use_token(nr).await
            }
            Use::Renew(pick) => self.renew(pick.below(self.tokens.0.len())).await,
            Use::RevokeSelf(pick) => self.revoke_self(pick.below(self.tokens.0.len())).await,
            Use::RevokeAsOperator(pick) => {
                self.revoke_as_operator(pick.below(self.tokens.0.len()))
                    .await
            }
            Use::Write(pick) => self.write(pick.below(SECRETS.len())).await,
            Use::Refused(pick) => self.refused(pick.below(self.tokens.0.len())).await,
            Use::Restart => self.restart().await,
        }
    }

    /// Mostly one that may create others.
    fn maker(&self, pick: Pick) -> usize {
        let makes = |nr: &usize| {
            let token = &self.tokens.0[*nr];
            token.name == "maker" || token.basis == Basis::Attested
        };
        let all: Vec<_> = (0..self.tokens.0.len()).collect();
        let makers: Vec<_> = all.iter().copied().filter(makes).collect();
        match pick.below(4) {
            0 => all[pick.below(all.len())],
            _ => makers[pick.below(makers.len())],
        }
    }

    async fn log_in(&mut self, basis: Basis) -> Result<()> {
        let (reply, name) = match basis {
            Basis::AppRole => {
                let body = login_body(&self.place.ci);
                (
                    self.host.write("auth/approle/login", "", &body).await?,
                    "ci",
                )
            }
            _ => (self.attested().await?, "attested"),
        };
        if self.known.is_none() {
            return self.given(&reply, name, basis).await;
        }
        let there = match basis {
            Basis::AppRole => self.log_in_there().await?,
            _ => self.mint().await?,
        };
        let excuse = causes::login_cause(self.at_once, &reply);
        self.issued(&reply, name, basis, there, excuse).await
    }

    async fn log_in_as_user(&mut self) -> Result<()> {
        let (path, body) = self.place.user_login_request();
        let reply = self.host.write(&path, "", &body).await?;
        self.given(&reply, "ann", Basis::Brought).await
    }

    /// What the primary gave through Holdover.
    async fn given(&mut self, reply: &Reply, name: &str, basis: Basis) -> Result<()> {
        self.note(format!("    {} by {:?}", reply.status, reply.source()));
        if reply.status != 200 {
            return Ok(());
        }
        if reply.source() != Some("primary") {
            return Err(self.host.daemon.failure(format!(
                "{name} was issued by the replica, which is not in charge"
            )));
        }
        let mut token = Token::new(name, basis, names_of(&reply.json()?["auth"])?);
        token.learned = true;
        token.proved = true;
        if let Basis::Of(parent) = basis {
            token.basis = Basis::Brought;
            if reply.json()?["auth"]["orphan"] == false {
                token.parent = Some(parent);
                token.parent_seen = true;
            }
        }
        self.tokens.0.push(token);
        self.tally.saw("issued", "by the primary");
        Ok(())
    }

    /// What the replica answered to a login or a creation, held against what the primary made of the same.
    async fn issued(
        &mut self,
        reply: &Reply,
        name: &str,
        basis: Basis,
        (status, auth): (u16, Value),
        excuse: Option<&'static str>,
    ) -> Result<()> {
        self.note(format!(
            "    {} by {:?}, {status} there",
            reply.status,
            reply.source()
        ));
        let wrong = |life: &Self, text: &str| {
            let said = format!(
                "{name} in an outage {text}: {}: {}",
                reply.status,
                reply.text()
            );
            Err(life
                .host
                .daemon
                .failure(format!("{said}\nthe primary: {status}: {auth}")))
        };
        match (reply.status, status) {
            (200, 200) => {}
            (200, _) => return wrong(self, "is issued what the primary refuses"),
            (_, 200) => match (excuse, causes::error(reply)) {
                (Some(excuse), _) => {
                    self.tally.saw("not issued", excuse);
                    return Ok(());
                }
                (None, _) => return wrong(self, "is refused what the primary issues"),
            },
            _ => {
                self.tally.saw("not issued", "by either");
                return Ok(());
            }
        }
        let body = reply.json()?;
        let (ours, theirs) = (policies(&body), policies(&json!({ "auth": auth })));
        if !ours.is_subset(&theirs) {
            return wrong(self, "has policies that the primary would not give");
        }
        let mut token = Token::new(name, basis, names_of(&body["auth"])?);
        (token.there, token.accessors.1) = names_of(&auth)?;
        token.outage = Some(self.outage);
        token.learned = true;
        if let Basis::Of(parent) = basis
            && auth["orphan"] == false
        {
            token.parent = Some(parent);
            token.parent_seen = true;
        }
        let rights = Rights::of(&self.api(&token.there), &self.place).await?;
        self.tokens.0.push(token);
        if let Some(known) = &mut self.known {
            known.rights.push(rights);
        }
        self.tally.saw("issued", "by the replica");
        Ok(())
    }

    async fn create(&mut self, by: usize, kind: Kind) -> Result<()> {
        let base = self.place.policy(Policy::Base);
        let extra = self.place.policy(Policy::Extra);
        let (path, body) = match kind {
            Kind::Child => ("auth/token/create".to_owned(), json!({ "ttl": "10m" })),
            Kind::Lesser => (
                "auth/token/create".to_owned(),
                json!({ "policies": [base], "ttl": "10m" }),
            ),
            Kind::Orphan => (
                "auth/token/create-orphan".to_owned(),
                json!({ "ttl": "10m" }),
            ),
            Kind::OfRole => (
                format!("auth/token/create/{}", self.place.role()),
                json!({ "ttl": "10m" }),
            ),
            Kind::Sudo => (
                "auth/token/create-orphan".to_owned(),
                json!({ "policies": [extra], "ttl": "10m" }),
            ),
        };
        let name = format!("{kind:?} of {by} ({})", self.tokens.0[by].name);
        self.note(format!("    {name}"));
        if self.known.is_none() {
            let reply = self
                .host
                .write(&path, &self.tokens.0[by].here, &body)
                .await?;
            return self.given(&reply, &name, Basis::Of(by)).await;
        }
        let Some(excuse) = self.excuse(by, kind) else {
            return Ok(());
        };
        let answer = self
            .api(&self.tokens.0[by].there)
            .post(&path, &body)
            .await?;
        let reply = self
            .host
            .write(&path, &self.tokens.0[by].here, &body)
            .await?;
        let alive = !self.tokens.is_dead_here(by)
            && self.known.as_ref().is_some_and(|k| k.permits(by, LOOK_UP));
        let made = match alive {
            true => (answer.status, answer.body["auth"].clone()),
            false => (403, Value::Null),
        };
        let excuse = excuse.or_else(|| causes::login_cause(self.at_once, &reply));
        self.issued(&reply, &name, Basis::Of(by), made, excuse)
            .await
    }

    /// Why the replica may not create what the primary would; the outer none where nobody can tell what is right.
    fn excuse(&self, by: usize, kind: Kind) -> Option<Option<&'static str>> {
        let question = self.question(by, LOOK_UP)?;
        let token = question.token;
        let excuses = [
            (kind == Kind::Sudo, "more than the workload's, by sudo"),
            (!token.learned, "token never used here"),
            (token.foreign, "token of another namespace"),
            (token.refused, "token refused at the primary"),
            (question.loosely, "token of an outage that is over"),
            (!question.proved, "not proved since the last outage"),
            (self.role_changed, "the workload's role is another"),
        ];
        Some(
            excuses
                .iter()
                .find(|(holds, _)| *holds)
                .map(|(_, name)| *name),
        )
    }

    async fn renew(&mut self, nr: usize) -> Result<()> {
        let reply = self
            .host
            .write("auth/token/renew-self", &self.tokens.0[nr].here, &json!({}))
            .await?;
        self.note(format!(
            "    token {nr}: {} by {:?}",
            reply.status,
            reply.source()
        ));
        let Some(question) = self.question(nr, LOOK_UP) else {
            return Ok(());
        };
        let Some(known) = &self.known else {
            return Ok(());
        };
        if reply.status == 200 && (question.dead || !known.permits(nr, LOOK_UP)) {
            return Err(self.violation(
                "in an outage",
                nr,
                "renew-self",
                &reply,
                "is renewed, and is dead",
            ));
        }
        self.tally.saw("renewed", reply.status.to_string());
        Ok(())
    }

    async fn revoke_self(&mut self, nr: usize) -> Result<()> {
        if self.tokens.0[nr].foreign {
            return Ok(());
        }
        let reply = self
            .host
            .write(
                "auth/token/revoke-self",
                &self.tokens.0[nr].here,
                &json!({}),
            )
            .await?;
        self.note(format!(
            "    token {nr} ({}): {} by {:?}",
            self.tokens.0[nr].name,
            reply.status,
            reply.source()
        ));
        if reply.status != 204 {
            if let (Some(known), Some(question)) = (&self.known, self.question(nr, LOOK_UP)) {
                match known.judge(&question, &reply) {
                    Ok(found) => self.count(&found),
                    Err(wrong) => {
                        return Err(self.violation(
                            "in an outage",
                            nr,
                            "revoke-self",
                            &reply,
                            &wrong,
                        ));
                    }
                }
            }
            return Ok(());
        }
        self.tally.saw("revoked", "by itself");
        let by_primary = reply.source() == Some("primary");
        self.is_revoked(nr, by_primary).await
    }

    async fn revoke_as_operator(&mut self, nr: usize) -> Result<()> {
        let revoked = self
            .host
            .revoke_as_operator(&self.tokens.0[nr].accessors.0)
            .await?;
        self.note(format!(
            "    token {nr} ({}): {revoked}",
            self.tokens.0[nr].name
        ));
        if revoked {
            self.tally.saw("revoked", "by the operator");
            self.is_revoked(nr, false).await?;
        }
        Ok(())
    }

    /// Holdover acknowledged that a token is revoked.
    async fn is_revoked(&mut self, nr: usize, by_primary: bool) -> Result<()> {
        let token = &mut self.tokens.0[nr];
        token.revoked_here = true;
        token.told_since = true;
        if token.is_replicas() {
            // So that what the primary made in its place has an end with all that hangs on it.
            let body = json!({ "accessor": token.accessors.1 });
            self.place
                .root
                .post("auth/token/revoke-accessor", &body)
                .await?;
            token.revoked_there = true;
        }
        token.revoked_there |= by_primary;
        self.try_dead().await
    }

    async fn write(&mut self, nr: usize) -> Result<()> {
        if SECRETS[nr].0 == Mount::Spare && !self.place.mounted {
            return Ok(());
        }
        let (path, text) = self.place.next_version(nr);
        let body = json!({ "data": { "text": text } });
        let reply = self
            .host
            .write(&path, self.primary.root_token(), &body)
            .await?;
        if reply.status != 200 && !self.is_there(&path, &text).await? {
            self.note(format!("    {}: {}", reply.status, reply.text()));
            return Ok(());
        }
        self.note(format!("    {path} = {text}"));
        self.written.insert(nr);
        self.place.became(nr, Some(text.clone()));
        // Holdover has passed it on: nothing older may be given any longer.
        self.place.secrets[nr].known = [Some(text)].into();
        Ok(())
    }

    /// Whether the primary has this value: a write whose answer did not come may have been carried out.
    async fn is_there(&self, path: &str, text: &str) -> Result<bool> {
        let shown = self.place.root.get(path).await?;
        Ok(shown.body["data"]["data"]["text"] == text)
    }

    /// Revoked at the primary, and refused there when it is used: that is told.
    async fn refused(&mut self, nr: usize) -> Result<()> {
        let token = &self.tokens.0[nr];
        let lives = token.learned
            && !token.is_replicas()
            && !token.foreign
            && !self.tokens.is_dead_there(nr);
        if !lives || self.tokens.may_be_dead(nr) || self.tokens.has_children(nr) {
            return Ok(());
        }
        let body = json!({ "token": token.there });
        self.note(format!("    token {nr} ({})", self.tokens.0[nr].name));
        self.place.root.write("auth/token/revoke", &body).await?;
        self.tokens.0[nr].revoked_there = true;
        self.quiet().await?;
        self.use_token(nr).await
    }

    async fn restart(&mut self) -> Result<()> {
        self.host.restart()?;
        if self.known.is_some() {
            return self.host.in_charge().await;
        }
        self.host.follows().await?;
        let listed = self.host.listed().await?;
        for token in &mut self.tokens.0 {
            token.killed(listed.contains(&token.accessors.0));
        }
        Ok(())
    }
}

fn name_of(change: &Change) -> String {
    let text = format!("{change:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}
