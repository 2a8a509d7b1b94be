//! One round: a set of policies, identities and tokens that both sides hold, and the requests that are asked with it.

use std::sync::Arc;

use harness::{Context, Failure, Result, bao::api::Api, clock, random::Seeded};
use serde_json::{Value, json};
use shared::{acl, name::TokenDigest, time::WallTime};
use tokio::task::JoinSet;

use crate::{
    asks::{self, Bearer, Wanted},
    people::People,
    rules::{self, Policy},
    sides::Sides,
    words,
};

/// Policies of a round.
const POLICIES: usize = 24;

/// Tokens of a round.
const TOKENS: usize = 14;

/// What both sides hold in a round.
pub(crate) struct Round {
    pub(crate) policies: Vec<Policy>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) hot: Vec<String>,
    /// Whether something in it ends within seconds, so that both sides may be asked at different sides of that end.
    pub(crate) ends_soon: bool,
    /// A text on which both sides disagree whether it is a policy.
    pub(crate) misread: Vec<String>,
    revoked: String,
    parent: String,
}

/// A token.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) accessor: String,
    /// Its own policies and its identity's.
    pub(crate) policies: Vec<String>,
    /// The entity's number.
    pub(crate) entity: Option<usize>,
    digest: TokenDigest,
    /// What its policies have, each once.
    pub(crate) features: Vec<&'static str>,
}

impl Round {
    /// Makes one at both sides.
    pub(crate) async fn begin(
        random: &mut Seeded,
        sides: &Sides,
        people: &mut People,
    ) -> Result<Round> {
        let hot: Vec<_> = (0..14)
            .map(|_| words::path(random, &sides.planted))
            .collect();
        people
            .change(random, &sides.root, &names(POLICIES), &hot)
            .await?;
        let ground = rules::Ground {
            hot: &hot,
            planted: &sides.planted,
            expressions: &people.expressions(),
            now: clock::wall().as_secs(),
        };
        let policies = (0..POLICIES).map(|nr| rules::policy(random, format!("p{nr}"), &ground));
        let mut round = Round {
            policies: policies.collect(),
            tokens: Vec::new(),
            hot,
            ends_soon: false,
            misread: Vec::new(),
            revoked: String::new(),
            parent: String::new(),
        };
        round.write_all(&sides.root).await?;
        round.make_tokens(random, sides, people).await?;
        people.disable_some(random, &sides.root).await?;
        sides.verify().await?;
        round.ends_soon = round.policies.iter().any(|policy| {
            let soon = |rule: &rules::Rule| rule.features.contains(&"rule: expires soon");
            policy.ends_in.is_some_and(|seconds| seconds < 60) || policy.rules.iter().any(soon)
        });
        Ok(round)
    }

    /// Requests for this round.
    pub(crate) fn asks(&self, random: &mut Seeded, sides: &Sides, count: usize) -> Vec<Wanted> {
        let ground = asks::Ground {
            hot: &self.hot,
            planted: &sides.planted,
            tokens: self.tokens.len(),
            accessor: &self.tokens[0].accessor,
        };
        (0..count).map(|_| asks::wanted(random, &ground)).collect()
    }

    /// The token that a request carries.
    pub(crate) fn token(&self, bearer: Bearer) -> &str {
        match bearer {
            Bearer::Token(nr) => &self.tokens[nr].text,
            Bearer::Revoked => &self.revoked,
            Bearer::Unknown => "s.AAAAAAAAAAAAAAAAAAAAAAAA",
            Bearer::Nobody => "",
        }
    }

    /// What counts of the policies behind a request.
    pub(crate) fn features(&self, bearer: Bearer) -> &[&'static str] {
        match bearer {
            Bearer::Token(nr) => &self.tokens[nr].features,
            _ => &["token: none or dead"],
        }
    }

    /// The policies behind a request.
    pub(crate) fn policies_of(&self, bearer: Bearer) -> &[String] {
        match bearer {
            Bearer::Token(nr) => &self.tokens[nr].policies,
            _ => &[],
        }
    }

    /// Writes one policy to the primary, again.
    pub(crate) async fn write(&self, root: &Api, policy: &Policy) -> Result<()> {
        write(root, policy.clone()).await?;
        Ok(())
    }

    /// Ends its tokens at both sides.
    pub(crate) async fn end(self, sides: &Sides) -> Result<()> {
        let revoke = json!({ "token": self.parent });
        sides.root.post("auth/token/revoke", &revoke).await?.ok()?;
        let digests: Vec<_> = self.tokens.iter().map(|token| token.digest).collect();
        sides.forget(&digests).await
    }

    /// What the primary refuses is left empty, and must be refused here too.
    async fn write_all(&mut self, root: &Api) -> Result<()> {
        let mut writing = JoinSet::new();
        for (nr, policy) in self.policies.iter().enumerate() {
            let (root, policy) = (root.clone(), policy.clone());
            writing.spawn(async move { (nr, write(&root, policy).await) });
        }
        while let Some(done) = writing.join_next().await {
            let (nr, accepted) = done?;
            let (accepted, text) = (accepted?, self.policies[nr].text());
            let now = WallTime::from_secs(i64::try_from(clock::wall().as_secs())?);
            let ours = acl::Policy::parse("p", &text, now);
            if accepted != ours.is_ok() {
                self.misread.push(format!(
                    "accepted {accepted}, here {:?}\n{text}",
                    ours.err()
                ));
            }
            if !accepted {
                self.policies[nr].rules.clear();
                self.write(root, &self.policies[nr]).await?;
            }
        }
        Ok(())
    }

    async fn make_tokens(
        &mut self,
        random: &mut Seeded,
        sides: &Sides,
        people: &People,
    ) -> Result<()> {
        let parent = sides.root.post("auth/token/create", &json!({})).await?;
        self.parent = parent.text("/auth/client_token")?;
        let maker = sides.root.as_token(&self.parent);
        let mut making = JoinSet::new();
        for _ in 0..=TOKENS {
            let (body, policies, entity) = plan(random, people);
            let maker = maker.clone();
            making.spawn(async move {
                let made = maker.post("auth/token/create/any", &body).await?.ok()?;
                Ok::<_, Failure>((made, policies, entity))
            });
        }
        let mut made = Vec::new();
        while let Some(done) = making.join_next().await {
            made.push(done??);
        }
        // In an order that the seed decides, not the network.
        made.sort_by(|(_, a, e), (_, b, f)| (a, e).cmp(&(b, f)));
        for (answer, policies, entity) in made {
            let text = |name: &str| {
                answer["auth"][name]
                    .as_str()
                    .map(str::to_owned)
                    .context("no token")
            };
            let (text, accessor) = (text("client_token")?, text("accessor")?);
            let digest = sides.learn(&text).await?;
            let all = policies
                .iter()
                .chain(entity.iter().flat_map(|nr| people.policies(*nr)));
            let policies: Vec<_> = all.cloned().collect();
            let features = self.features_of(&policies);
            self.tokens.push(Token {
                text,
                accessor,
                policies,
                entity,
                digest,
                features,
            });
        }
        let revoked = self.tokens.pop().context("no tokens")?;
        sides.revoke(&revoked.text, revoked.digest).await?;
        self.revoked = revoked.text;
        Ok(())
    }

    fn features_of(&self, names: &[String]) -> Vec<&'static str> {
        let mut features = Vec::new();
        let mut paths: Vec<&str> = Vec::new();
        for policy in self
            .policies
            .iter()
            .filter(|policy| names.contains(&policy.name))
        {
            if policy.json {
                features.push("policy: JSON");
            }
            if policy.ends_in.is_some() {
                features.push("policy: ends");
            }
            for rule in &policy.rules {
                features.extend(&rule.features);
                if paths.contains(&rule.path.as_str()) {
                    features.push("policy: one path twice");
                }
                paths.push(&rule.path);
            }
        }
        features.sort_unstable();
        features.dedup();
        features
    }
}

/// A token to be made: its body, its policies and its entity.
fn plan(random: &mut Seeded, people: &People) -> (Value, Vec<String>, Option<usize>) {
    let count = 1 + random.index(6);
    let mut policies: Vec<_> = (0..count)
        .map(|_| random.pick(&names(POLICIES)).clone())
        .collect();
    let default = random.chance(40);
    if random.chance(10) {
        policies.push("absent".to_owned());
    }
    policies.sort();
    policies.dedup();
    let entity = random.chance(45).then(|| random.index(people.count()));
    let mut body = json!({ "policies": policies, "no_default_policy": !default, "ttl": "30m" });
    if let Some(nr) = entity {
        body["entity_alias"] = people.alias(nr).into();
    }
    (body, policies, entity)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|nr| format!("p{nr}")).collect()
}

/// Whether the primary takes it.
async fn write(root: &Api, policy: Policy) -> Result<bool> {
    let mut body = json!({
        "policy": policy.text(),
        "allow_slashes_in_identity_templates": policy.slashes,
        "allow_wildcards_in_identity_templates": policy.wildcards,
    });
    if let Some(seconds) = policy.ends_in {
        body["ttl"] = format!("{seconds}s").into();
    }
    let answer = root
        .put(&format!("sys/policies/acl/{}", policy.name), &body)
        .await?;
    match answer.status {
        200 | 204 => Ok(true),
        400 => Ok(false),
        status => Err(Failure::new(format!(
            "policy: {status} {}\n{}",
            answer.body,
            policy.text()
        ))),
    }
}

/// Shared by the tasks that ask.
pub(crate) type Shared = Arc<Round>;
