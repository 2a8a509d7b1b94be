//! Where a life takes place at the primary: secrets, policies, roles, people. Lives share a server, so everything has the
//! life's own name in it; every second one has a namespace to itself.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::bao::Primary;
use harness::bao::api::{Answer, Api};
use harness::{Context, Failure, Result, eventually};
use serde_json::{Value, json};

use crate::script::{Policy, Secret, Text};

/// What is asked for with each token. The first ones are secrets.
pub(crate) const PROBES: usize = SECRETS.len() + 2;

/// Secrets, below their mount.
pub(crate) const SECRETS: [(Mount, &str); 6] = [
    (Mount::Main, "a/1"),
    (Mount::Main, "a/2"),
    (Mount::Main, "b/1"),
    (Mount::Main, "e/1"),
    (Mount::Main, "g/1"),
    (Mount::Spare, "s/1"),
];

/// The probe that looks the token up.
pub(crate) const LOOK_UP: usize = SECRETS.len() + 1;

/// Which mount a secret is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mount {
    Main,
    /// One that is taken away.
    Spare,
}

/// A secret as it is now, and as the replica may know it: no value where there is none.
#[derive(Clone, Default)]
pub(crate) struct Versions {
    written: u64,
    pub(crate) current: Option<String>,
    pub(crate) known: BTreeSet<Option<String>>,
}

/// An AppRole's login.
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

/// The place.
pub(crate) struct Place {
    /// What everything of the life is named by.
    pub(crate) mark: String,
    /// Empty for the root.
    pub(crate) namespace: String,
    /// In the namespace.
    pub(crate) root: Api,
    outer: Api,
    pub(crate) ci: Login,
    /// One that stays as it is, by which passes are told.
    pub(crate) beacon: Login,
    entity: String,
    pub(crate) secrets: Vec<Versions>,
    pub(crate) mounted: bool,
    /// Another spare mount was put in the place of the first, and no pass has seen it yet.
    remounted: bool,
}

const WAIT: Duration = Duration::from_secs(30);

impl Place {
    pub(crate) async fn make(primary: &Primary, mark: &str, namespaced: bool) -> Result<Place> {
        let mark = mark.to_owned();
        let namespace = match namespaced {
            true => format!("team-{mark}"),
            false => String::new(),
        };
        let outer = primary.root();
        if namespaced {
            let path = format!("sys/namespaces/{namespace}");
            outer.write(&path, &json!({})).await?;
        }
        let root = outer.in_namespace(&namespace);
        if namespaced {
            enable_logins(&root).await?;
        }
        let none = || Login {
            name: String::new(),
            role_id: String::new(),
            secret_id: String::new(),
        };
        let mut place = Place {
            mark,
            namespace,
            root,
            outer,
            ci: none(),
            beacon: none(),
            entity: String::new(),
            secrets: vec![Versions::default(); SECRETS.len()],
            mounted: true,
            remounted: false,
        };
        place.furnish().await?;
        Ok(place)
    }

    async fn furnish(&mut self) -> Result<()> {
        for mount in [Mount::Main, Mount::Spare] {
            self.mount(mount).await?;
        }
        for nr in 0..SECRETS.len() {
            self.write_secret(nr, Secret::Write).await?;
        }
        for policy in crate::script::POLICIES {
            self.write_policy(policy, Text::Whole).await?;
        }
        self.write_role(true).await?;
        let policies = json!({ "token_policies": [self.policy(Policy::Base)], "token_ttl": "1h" });
        self.ci = self.app_role("ci", &policies).await?;
        self.beacon = self.app_role("beacon", &policies).await?;
        let user = json!({ "password": "p", "token_policies": self.policy(Policy::Base) });
        self.root
            .write(&format!("auth/userpass/users/{}-ann", self.mark), &user)
            .await?;
        let (_, auth) = self.user_login(&self.root).await?;
        let entity = auth["entity_id"].as_str().context("an entity")?.to_owned();
        let own = json!({ "policies": [self.policy(Policy::Own)] });
        self.root
            .write(&format!("identity/entity/id/{entity}"), &own)
            .await?;
        self.entity = entity;
        self.set_group(true).await
    }

    async fn mount(&self, mount: Mount) -> Result<()> {
        let body = json!({ "type": "kv", "options": { "version": "2" } });
        let path = self.mount_path(mount);
        self.root
            .write(&format!("sys/mounts/{path}"), &body)
            .await?;
        // A fresh one answers 400 while it sets itself up.
        eventually(WAIT, "the mount", async || {
            match self.root.get(&format!("{path}/config")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.body.to_string()),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await
    }

    pub(crate) fn mount_path(&self, mount: Mount) -> String {
        let name = match mount {
            Mount::Main => "kv",
            Mount::Spare => "spare",
        };
        format!("{}-{name}", self.mark)
    }

    /// What the probe of this number asks for.
    pub(crate) fn probe(&self, nr: usize) -> String {
        match SECRETS.get(nr) {
            Some((mount, path)) => format!("{}/data/{path}", self.mount_path(*mount)),
            None if nr == LOOK_UP => "auth/token/lookup-self".to_owned(),
            None => format!("{}/metadata/a?list=true", self.mount_path(Mount::Main)),
        }
    }

    pub(crate) fn policy(&self, policy: Policy) -> String {
        format!("{}-{policy:?}", self.mark).to_lowercase()
    }

    pub(crate) fn role(&self) -> String {
        format!("{}-orders", self.mark)
    }

    pub(crate) async fn write_policy(&self, policy: Policy, text: Text) -> Result<()> {
        let path = format!("sys/policies/acl/{}", self.policy(policy));
        let body = json!({ "policy": self.text(policy, text) });
        self.root.write(&path, &body).await.map(drop)
    }

    fn text(&self, policy: Policy, text: Text) -> String {
        let (kv, spare) = (self.mount_path(Mount::Main), self.mount_path(Mount::Spare));
        let rule =
            |path: &str, right: &str| format!("path \"{path}\" {{ capabilities = [{right}] }}\n");
        let read = |folder: &str| match text {
            Text::Narrow => rule(&format!("{kv}/data/{folder}/2"), "\"read\""),
            _ => rule(&format!("{kv}/data/{folder}/*"), "\"read\""),
        };
        let denial = rule(&format!("{kv}/data/+/1"), "\"deny\"");
        let mut all = match policy {
            Policy::Base => {
                let spare = rule(&format!("{spare}/data/s/*"), "\"read\"");
                let list = rule(&format!("{kv}/metadata/a"), "\"list\"");
                read("a") + &spare + &list
            }
            Policy::Extra => read("b"),
            Policy::Own => read("e"),
            Policy::Staff => read("g"),
            Policy::Maker => {
                let orphan = rule("auth/token/create-orphan", "\"update\", \"sudo\"");
                let of_role = rule(&format!("auth/token/create/{}", self.role()), "\"update\"");
                let child = rule("auth/token/create", "\"update\"");
                match text {
                    Text::Narrow => child,
                    _ => child + &orphan + &of_role,
                }
            }
        };
        match text {
            Text::Empty => all = "# nothing".to_owned(),
            Text::Denying => all += &denial,
            Text::Whole | Text::Narrow => {}
        }
        all
    }

    pub(crate) async fn write_role(&self, whole: bool) -> Result<()> {
        let mut policies = vec![self.policy(Policy::Base)];
        policies.extend(whole.then(|| self.policy(Policy::Maker)));
        let body = json!({
            "orphan": true,
            "renewable": true,
            "token_type": "default-service",
            "allowed_policies": policies,
        });
        let path = format!("auth/token/roles/{}", self.role());
        self.root.write(&path, &body).await.map(drop)
    }

    async fn app_role(&self, name: &str, fields: &Value) -> Result<Login> {
        let name = format!("{}-{name}", self.mark);
        let path = format!("auth/approle/role/{name}");
        self.root.write(&path, fields).await?;
        let role_id = self.root.get(&format!("{path}/role-id")).await?;
        let secret_id = self
            .root
            .post(&format!("{path}/secret-id"), &json!({}))
            .await?;
        Ok(Login {
            name,
            role_id: role_id.text("/data/role_id")?,
            secret_id: secret_id.text("/data/secret_id")?,
        })
    }

    /// The login that Holdover has itself, with exactly these rights: role id and secret id.
    pub(crate) async fn own_login(&self, policy: &str) -> Result<Login> {
        let name = format!("{}-holdover", self.mark);
        let path = format!("sys/policies/acl/{name}");
        self.root.write(&path, &json!({ "policy": policy })).await?;
        let fields = json!({
            "token_policies": [name],
            "token_no_default_policy": true,
            "token_period": "1h",
        });
        self.app_role("holdover", &fields).await
    }

    /// Ann's login, by whoever asks: path and body for another client.
    pub(crate) fn user_login_request(&self) -> (String, Value) {
        let path = format!("auth/userpass/login/{}-ann", self.mark);
        (path, json!({ "password": "p" }))
    }

    async fn user_login(&self, by: &Api) -> Result<(u16, Value)> {
        let (path, body) = self.user_login_request();
        let answer = by.as_token("").post(&path, &body).await?;
        Ok((answer.status, answer.body["auth"].clone()))
    }

    pub(crate) async fn set_entity(&self, disabled: bool) -> Result<Answer> {
        let path = format!("identity/entity/id/{}", self.entity);
        self.root
            .post(&path, &json!({ "disabled": disabled }))
            .await
    }

    pub(crate) async fn delete_entity(&self) -> Result<()> {
        let path = format!("identity/entity/id/{}", self.entity);
        self.root.delete(&path).await?.ok().map(drop)
    }

    fn group(&self) -> String {
        format!("identity/group/name/{}-staff", self.mark)
    }

    pub(crate) async fn set_group(&self, member: bool) -> Result<()> {
        let members: &[&str] = if member { &[&self.entity] } else { &[] };
        let body =
            json!({ "policies": [self.policy(Policy::Staff)], "member_entity_ids": members });
        // The entity may be gone.
        self.root.post(&self.group(), &body).await.map(drop)
    }

    pub(crate) async fn delete_group(&self) -> Result<()> {
        self.root.delete(&self.group()).await?.ok().map(drop)
    }

    /// The secret's full path, and what is to be written as its next version.
    pub(crate) fn next_version(&mut self, nr: usize) -> (String, String) {
        let path = self.probe(nr);
        let versions = &mut self.secrets[nr];
        versions.written += 1;
        let text = format!("{}-{nr}-{}", self.mark, versions.written);
        (path, text)
    }

    /// What is there from now on; the replica may or may not know.
    pub(crate) fn became(&mut self, nr: usize, current: Option<String>) {
        let versions = &mut self.secrets[nr];
        versions.current.clone_from(&current);
        versions.known.insert(current);
    }

    /// A pass has seen everything as it is now.
    pub(crate) fn seen(&mut self) {
        self.remounted = false;
        for versions in &mut self.secrets {
            versions.known = BTreeSet::from([versions.current.clone()]);
        }
    }

    /// Whether no pass has seen the secret as it is now.
    pub(crate) fn is_changed(&self, probe: usize) -> bool {
        let known = self.secrets.get(probe).map(|versions| versions.known.len());
        known.is_some_and(|known| known > 1)
    }

    /// Whether no pass has seen the mount that the secret is in.
    pub(crate) fn is_remounted(&self, probe: usize) -> bool {
        let mount = SECRETS.get(probe).map(|(mount, _)| *mount);
        self.remounted && mount == Some(Mount::Spare)
    }

    pub(crate) async fn write_secret(&mut self, nr: usize, act: Secret) -> Result<()> {
        if SECRETS[nr].0 == Mount::Spare && !self.mounted {
            return Ok(());
        }
        let path = self.probe(nr);
        match act {
            Secret::Write => {
                let (path, text) = self.next_version(nr);
                let body = json!({ "data": { "text": text } });
                self.root.write(&path, &body).await?;
                self.became(nr, Some(text));
            }
            Secret::DeleteLatest => {
                self.root.delete(&path).await?.ok()?;
                self.became(nr, None);
            }
            Secret::DestroyLatest => {
                let destroy = path.replace("/data/", "/destroy/");
                let metadata = path.replace("/data/", "/metadata/");
                let shown = self.root.get(&metadata).await?;
                if shown.status == 200 {
                    let latest = shown.body["data"]["current_version"].clone();
                    let body = json!({ "versions": [latest] });
                    self.root.write(&destroy, &body).await?;
                    self.became(nr, None);
                }
            }
            Secret::DeleteAll => {
                let metadata = path.replace("/data/", "/metadata/");
                self.root.delete(&metadata).await?.ok()?;
                self.became(nr, None);
            }
        }
        Ok(())
    }

    /// Takes the spare mount away. Authority says so, which every recovery verifies: nothing that was in it may be known
    /// by then.
    pub(crate) async fn unmount(&mut self) -> Result<()> {
        if self.mounted {
            let path = format!("sys/mounts/{}", self.mount_path(Mount::Spare));
            self.root.delete(&path).await?.ok()?;
            self.mounted = false;
            self.forget_spare();
        }
        Ok(())
    }

    /// Mounts another one in its place, with a value of its own.
    pub(crate) async fn remount(&mut self) -> Result<()> {
        self.unmount().await?;
        self.mount(Mount::Spare).await?;
        self.mounted = true;
        self.remounted = true;
        for (nr, (mount, _)) in SECRETS.iter().enumerate() {
            if *mount == Mount::Spare {
                self.write_secret(nr, Secret::Write).await?;
            }
        }
        Ok(())
    }

    fn forget_spare(&mut self) {
        for (versions, (mount, _)) in self.secrets.iter_mut().zip(SECRETS) {
            if mount == Mount::Spare {
                versions.current = None;
                versions.known = BTreeSet::from([None]);
            }
        }
    }

    /// A token of this policy in another namespace, where it is a policy of the same name and text.
    pub(crate) async fn foreign_token(&self) -> Result<(String, String)> {
        let elsewhere = match self.namespace.as_str() {
            "" => format!("sibling-{}", self.mark),
            _ => String::new(),
        };
        if !elsewhere.is_empty() {
            let path = format!("sys/namespaces/{elsewhere}");
            self.outer.write(&path, &json!({})).await?;
        }
        let api = self.outer.in_namespace(&elsewhere);
        let name = self.policy(Policy::Base);
        let body = json!({ "policy": self.text(Policy::Base, Text::Whole) });
        api.write(&format!("sys/policies/acl/{name}"), &body)
            .await?;
        let token = json!({ "policies": [name], "ttl": "1h" });
        let made = api.post("auth/token/create", &token).await?.ok()?;
        names_of(&made["auth"])
    }

    /// Leaves as little as can be to those who come after.
    pub(crate) async fn leave(&self) -> Result<()> {
        match self.namespace.as_str() {
            "" => {
                for policy in crate::script::POLICIES {
                    let path = format!("sys/policies/acl/{}", self.policy(policy));
                    self.root.delete(&path).await?;
                }
                for mount in [Mount::Main, Mount::Spare] {
                    let path = format!("sys/mounts/{}", self.mount_path(mount));
                    self.root.delete(&path).await?;
                }
            }
            name => drop(self.outer.delete(&format!("sys/namespaces/{name}")).await?),
        }
        Ok(())
    }
}

/// What logins need, once in each namespace.
pub(crate) async fn enable_logins(root: &Api) -> Result<()> {
    for kind in ["approle", "userpass"] {
        let path = format!("sys/auth/{kind}");
        root.write(&path, &json!({ "type": kind })).await?;
    }
    Ok(())
}

/// Token and accessor of an `auth` block.
pub(crate) fn names_of(auth: &Value) -> Result<(String, String)> {
    let text = |name: &str| auth[name].as_str().map(str::to_owned);
    match (text("client_token"), text("accessor")) {
        (Some(token), Some(accessor)) => Ok((token, accessor)),
        _ => Err(Failure::new(format!("no token in {auth}"))),
    }
}
