//! One sequence: tokens that make tokens, look at each other, renew, revoke and end, on both sides at once.

use std::sync::Arc;
use std::time::Duration;

use harness::bao::api::Api;
use harness::clock::Stopwatch;
use harness::random::Seeded;
use harness::{Context, Failure, Result};
use serde_json::{Value, json};
use shared::workload::Peer;

use crate::World;
use crate::asked;
use crate::causes;
use crate::compare::{Measure, Said, difference, fits, warned};
use crate::mirrored::{Bound, peer, roles};
use crate::tokens::{End, Life, MARGIN, Name, Pair, RENEWAL_MARGIN, Side, Tokens};

/// Steps of a sequence, at least; as many again may follow.
const STEPS: u64 = 6;

/// The primary ends what hangs on a token in the background: it is asked again for so long.
const CASCADE: Duration = Duration::from_secs(15);

/// A step that took longer than this, in seconds, says nothing about seconds.
const SLOW: f64 = 1.0;

/// Calls that only look.
const LOOKS: [&str; 3] = ["lookup-self", "lookup", "lookup-accessor"];

/// How a sequence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Both sides agreed all along.
    Complete,
    /// A step took so long that a token ended in its middle.
    Late,
}

/// A sequence being played.
pub(crate) struct Play {
    world: Arc<World>,
    nr: usize,
    peer: Peer,
    random: Seeded,
    tokens: Tokens,
    told: Vec<String>,
}

/// A request about a token, as it is put to either side.
struct Request {
    by: usize,
    about: usize,
    method: &'static str,
    /// Below `auth/token/`.
    place: String,
    body: Value,
    /// The body names the token that it is about, by this field.
    names: Option<&'static str>,
}

impl Play {
    /// Makes the first token, which the replica knows from the primary.
    pub(crate) async fn begin(world: &Arc<World>, nr: usize, mut random: Seeded) -> Result<Play> {
        let ttl = match random.chance(20) {
            true => 6 + random.below(8),
            false => 50,
        };
        let maker = random.one(&["maker", "maker", "chief"]);
        let mut policies = vec![maker, "alpha"];
        policies.extend(random.chance(50).then_some("beta"));
        let body = json!({
            "policies": policies, "ttl": ttl, "no_default_policy": random.chance(15),
        });
        let root = world.primary.root();
        let sent = world.replica.at();
        let made = root.post("auth/token/create", &body).await?.ok()?;
        let name = names(&made, "auth", "client_token")?;
        let shown = root
            .post("auth/token/lookup", &json!({ "token": name.token }))
            .await?
            .data()?;
        world.replica.learn(&name.token, &shown).await?;
        let at = world.replica.at();
        let left = shown.get("ttl").and_then(Value::as_f64).context("no ttl")?;
        let whole = ttl as f64;
        let pair = Pair {
            primary: name.clone(),
            replica: name,
            parent: None,
            ends: (
                End {
                    earliest: sent + whole,
                    latest: at + whole,
                },
                End {
                    earliest: sent + left,
                    latest: at + left,
                },
            ),
            first: (whole, whole),
            apart: 0.0,
            revoked: false,
            longest: f64::INFINITY,
        };
        Ok(Play {
            world: world.clone(),
            nr,
            peer: peer(nr)?,
            random,
            tokens: Tokens(vec![pair]),
            told: vec![format!(
                "roles {:?}, bounds {:?}, first token {body}",
                roles(nr),
                world.replica.bound(nr)
            )],
        })
    }

    /// What happened, for whoever reads the test's output.
    pub(crate) fn told(&self) -> String {
        self.told.join("\n")
    }

    /// Plays it.
    pub(crate) async fn run(&mut self) -> Result<Ended> {
        // Not all at once.
        tokio::time::sleep(Duration::from_millis(self.random.below(3000))).await;
        for _ in 0..STEPS + self.random.below(STEPS) {
            let ended = match self.random.below(20) {
                0..8 => self.create().await?,
                8..11 => self.look().await?,
                11..16 => self.renew().await?,
                16..18 => self.revoke().await?,
                _ => {
                    let pause = Duration::from_millis(500 + self.random.below(3000));
                    tokio::time::sleep(pause).await;
                    Ended::Complete
                }
            };
            if ended == Ended::Late {
                return Ok(ended);
            }
        }
        // Who is dead in the end.
        for nr in 0..self.tokens.0.len() {
            let request = Request::about_itself("GET", "lookup-self", nr);
            if self.step(request).await? == Ended::Late {
                return Ok(Ended::Late);
            }
        }
        Ok(Ended::Complete)
    }

    /// Any token; mostly one that lives.
    fn any(&mut self) -> usize {
        let at = self.world.replica.at();
        let mut nr = 0;
        for _ in 0..4 {
            nr = usize::try_from(self.random.below(self.tokens.0.len() as u64)).unwrap_or(0);
            if self.tokens.life(nr, Side::Replica, at, MARGIN) == Life::Alive {
                break;
            }
        }
        nr
    }

    async fn create(&mut self) -> Result<Ended> {
        let by = match self.random.chance(60) {
            true => 0,
            false => self.any(),
        };
        let [first, second] = roles(self.nr);
        let place = match self.random.below(20) {
            0..8 => "create".to_owned(),
            8..11 => "create-orphan".to_owned(),
            11..15 => format!("create/{first}"),
            15..19 => format!("create/{second}"),
            _ => match self.random.chance(20) {
                true => "create/nobody-has-it".to_owned(),
                false => "create".to_owned(),
            },
        };
        let body = asked::creation(&mut self.random);
        self.step(Request {
            by,
            about: by,
            method: "POST",
            place,
            body,
            names: None,
        })
        .await
    }

    async fn look(&mut self) -> Result<Ended> {
        let (by, about) = (self.any(), self.any());
        let request = match self.random.below(3) {
            0 => Request::about_itself("GET", "lookup-self", about),
            1 => Request::about("POST", "lookup", by, about, "token"),
            _ => Request::about("POST", "lookup-accessor", by, about, "accessor"),
        };
        self.step(request).await
    }

    /// Of the first token the replica can only tell what is left.
    async fn renew(&mut self) -> Result<Ended> {
        let (by, about) = (self.any(), self.any());
        if about == 0 {
            return Ok(Ended::Complete);
        }
        let mut request = match self.random.below(4) {
            0 => Request::about("PUT", "renew", by, about, "token"),
            1 => Request::about("PUT", "renew-accessor", by, about, "accessor"),
            _ => Request::about_itself("PUT", "renew-self", about),
        };
        if let Some(increment) = asked::increment(&mut self.random) {
            request.body["increment"] = increment;
        }
        self.step(request).await
    }

    async fn revoke(&mut self) -> Result<Ended> {
        let (by, about) = (self.any(), self.any());
        if about == 0 && self.random.chance(70) {
            return Ok(Ended::Complete);
        }
        let request = match self.random.below(5) {
            // Of the primary's own tokens only the primary can do that.
            0 if about != 0 => Request::about("PUT", "revoke-orphan", by, about, "token"),
            1 => Request::about("PUT", "revoke", by, about, "token"),
            2 => Request::about("PUT", "revoke-accessor", by, about, "accessor"),
            _ => Request::about_itself("PUT", "revoke-self", about),
        };
        self.step(request).await
    }

    /// Puts a request to both sides, when nothing that it is about ends, and compares.
    async fn step(&mut self, request: Request) -> Result<Ended> {
        self.wait_until_sure(&request).await;
        let sent = self.world.replica.at();
        let lives = |play: &Self, at, margin| {
            [request.by, request.about].map(|nr| {
                [Side::Primary, Side::Replica].map(|side| play.tokens.life(nr, side, at, margin))
            })
        };
        let before = lives(self, sent, MARGIN / 2.0);
        if let Some(ended) = self.outlived(&request, before).await? {
            return Ok(ended);
        }
        let (primary, replica) = tokio::join!(self.at_primary(&request), self.at_replica(&request));
        let (mut primary, replica) = (primary?, replica?);
        let got = self.world.replica.at();
        let kind = request
            .place
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        self.told.push(format!(
            "{sent:.2}–{got:.2} {} by {} about {} {}\n    primary {} {}\n    replica {} {}",
            request.place,
            request.by,
            request.about,
            request.body,
            primary.0,
            primary.1,
            replica.0,
            replica.1
        ));
        if before != lives(self, got, MARGIN / 5.0) {
            return Ok(Ended::Late);
        }
        let looks = LOOKS.contains(&kind.as_str());
        if !looks && got - sent > SLOW {
            return Ok(Ended::Late);
        }
        let not_mirrored = request.place.ends_with("nobody-has-it");
        if replica.0 == 503 && (primary.0 == 200 || not_mirrored) {
            return self.undecided(&kind, &replica);
        }
        let measure = Measure {
            most: self.most(&request, got),
            apart: got - sent + self.tokens.0[request.about].apart,
            mirrored: request.about == 0 && looks,
        };
        let mut seen = difference(&primary, &replica, measure);
        if seen.is_err() && before.iter().flatten().any(|life| *life == Life::Dead) {
            (primary, seen) = self.later(&request, &replica, measure).await?;
        }
        seen.map_err(Failure::new)?;
        if looks {
            let about = &self.tokens.0[request.about];
            let asked = (sent, self.world.replica.at());
            fits(&primary, about.ends.0, about.first.0, asked).map_err(Failure::new)?;
            fits(&replica, about.ends.1, about.first.1, asked).map_err(Failure::new)?;
        }
        self.world.tally.step(&kind, primary.0);
        if self.tokens.died_with_another(request.about, sent) {
            self.world.tally.cascade();
        }
        self.remember(&request, &kind, (sent, got), &primary, &replica)?;
        Ok(Ended::Complete)
    }

    /// Asks the primary again until it agrees, for what hangs on a token ends there in the background.
    async fn later(
        &self,
        request: &Request,
        replica: &Said,
        measure: Measure,
    ) -> Result<(Said, std::result::Result<(), String>)> {
        let watch = Stopwatch::start();
        loop {
            let primary = self.at_primary(request).await?;
            let seen = difference(&primary, replica, measure);
            if seen.is_ok() || watch.elapsed() > CASCADE {
                return Ok((primary, seen));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits out the end of what a request is about, if that is near.
    async fn wait_until_sure(&self, request: &Request) {
        let margin = match request.place.starts_with("renew") {
            true => RENEWAL_MARGIN,
            false => MARGIN,
        };
        loop {
            let at = self.world.replica.at();
            let sure = [request.by, request.about]
                .into_iter()
                .filter_map(|nr| self.tokens.sure_from(nr, at, margin));
            match sure.max_by(f64::total_cmp) {
                Some(from) => {
                    tokio::time::sleep(Duration::from_secs_f64((from - at).max(0.01))).await
                }
                None => return,
            }
        }
    }

    /// Where the workload's bounds have ended what still lives at the primary, all that is left to see is that the
    /// replica refuses it.
    async fn outlived(
        &mut self,
        request: &Request,
        lives: [[Life; 2]; 2],
    ) -> Result<Option<Ended>> {
        let ended = |[primary, replica]: [Life; 2]| primary == Life::Alive && replica == Life::Dead;
        let Some(nr) = [request.by, request.about]
            .into_iter()
            .zip(lives)
            .find_map(|(nr, lives)| ended(lives).then_some(nr))
        else {
            return Ok(None);
        };
        let request = Request::about_itself("GET", "lookup-self", nr);
        let (status, body) = self.at_replica(&request).await?;
        if status != 403 || body["errors"] != json!(["permission denied"]) {
            return Err(Failure::new(format!(
                "token {nr} outlives its workload's bounds: {status} {body}"
            )));
        }
        self.world.tally.step("outlived", status);
        Ok(Some(Ended::Complete))
    }

    fn undecided(&self, kind: &str, replica: &Said) -> Result<Ended> {
        let text = replica
            .1
            .pointer("/errors/0")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let cause = causes::cause(text).context(format!("undecided: {text}"))?;
        self.world.tally.step(kind, replica.0);
        self.world.tally.undecided(cause);
        Ok(Ended::Complete)
    }

    /// What the workload's bounds leave to what a request gives, in seconds.
    fn most(&self, request: &Request, at: f64) -> f64 {
        let about = &self.tokens.0[request.about];
        let Some(Bound { ttl, max_ttl }) = self.world.replica.bound(self.nr) else {
            return f64::INFINITY;
        };
        if request.place.starts_with("create") {
            ttl.min(max_ttl).as_secs_f64().min(about.longest - at)
        } else if request.place.starts_with("renew") {
            ttl.as_secs_f64().min(about.longest - at)
        } else {
            f64::INFINITY
        }
    }

    fn remember(
        &mut self,
        request: &Request,
        kind: &str,
        (sent, got): (f64, f64),
        primary: &Said,
        replica: &Said,
    ) -> Result<()> {
        if primary.0 >= 300 {
            return Ok(());
        }
        if warned(primary) {
            self.world.tally.warned();
        }
        let given = |said: &Said| {
            said.1
                .pointer("/auth/lease_duration")
                .and_then(Value::as_f64)
        };
        let ends = || {
            let (primary, replica) = (given(primary)?, given(replica)?);
            if replica + 1.5 < primary {
                self.world.tally.cut();
            }
            let ends = |ttl: f64, more: f64| End {
                earliest: sent + ttl,
                latest: got + ttl + more,
            };
            Some((ends(primary, 0.0), ends(replica, 1.0)))
        };
        match kind {
            "create" | "create-orphan" => {
                let orphan = primary.1.pointer("/auth/orphan").and_then(Value::as_bool);
                let bound = self.world.replica.bound(self.nr);
                let longest =
                    bound.map_or(f64::INFINITY, |bound| sent + bound.max_ttl.as_secs_f64());
                let pair = Pair {
                    primary: names(&primary.1, "auth", "client_token")?,
                    replica: names(&replica.1, "auth", "client_token")?,
                    parent: (orphan == Some(false)).then_some(request.by),
                    ends: ends().context("no TTL")?,
                    first: (
                        given(primary).unwrap_or_default(),
                        given(replica).unwrap_or_default(),
                    ),
                    apart: got - sent,
                    revoked: false,
                    longest: longest.min(self.tokens.0[request.by].longest),
                };
                self.tokens.0.push(pair);
            }
            "renew" | "renew-self" | "renew-accessor" => {
                let ends = ends().context("no TTL")?;
                self.tokens.0[request.about].ends = ends;
            }
            "revoke" | "revoke-self" | "revoke-accessor" => {
                self.tokens.0[request.about].revoked = true
            }
            "revoke-orphan" => {
                self.tokens.0[request.about].revoked = true;
                for pair in &mut self.tokens.0 {
                    pair.parent = pair.parent.filter(|parent| *parent != request.about);
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn at_primary(&self, request: &Request) -> Result<Said> {
        let by = &self.tokens.0[request.by].primary;
        let api: Api = self.world.primary.api(&by.token);
        let path = format!("auth/token/{}", request.place);
        let body = request.body_for(&self.tokens.0[request.about].primary);
        let answer = match request.method {
            "GET" => api.get(&path).await?,
            "PUT" => api.put(&path, &body).await?,
            _ => api.post(&path, &body).await?,
        };
        Ok((answer.status, answer.body))
    }

    async fn at_replica(&self, request: &Request) -> Result<Said> {
        let by = &self.tokens.0[request.by].replica;
        let path = format!("auth/token/{}", request.place);
        let body = match request.method {
            "GET" => Value::Null,
            _ => request.body_for(&self.tokens.0[request.about].replica),
        };
        let replica = &self.world.replica;
        replica
            .ask(&self.peer, request.method, &path, &by.token, &body)
            .await
    }
}

impl Request {
    fn about_itself(method: &'static str, place: &str, nr: usize) -> Request {
        Request {
            by: nr,
            about: nr,
            method,
            place: place.to_owned(),
            body: json!({}),
            names: None,
        }
    }

    fn about(
        method: &'static str,
        place: &str,
        by: usize,
        about: usize,
        names: &'static str,
    ) -> Request {
        Request {
            by,
            about,
            names: Some(names),
            ..Request::about_itself(method, place, by)
        }
    }

    fn body_for(&self, name: &Name) -> Value {
        let mut body = self.body.clone();
        match self.names {
            Some("token") => body["token"] = json!(name.token),
            Some(field) => body[field] = json!(name.accessor),
            None => {}
        }
        body
    }
}

fn names(body: &Value, part: &str, token: &str) -> Result<Name> {
    let text = |name: &str| {
        let text = body
            .get(part)
            .and_then(|part| part.get(name))
            .and_then(Value::as_str);
        text.map(str::to_owned)
            .context(format!("no {name} in {body}"))
    };
    Ok(Name {
        token: text(token)?,
        accessor: text("accessor")?,
    })
}
