//! The tokens of a sequence, as pairs: what the primary made of a request, and what the replica made of it.

/// A moment before or after which nothing is sure: clocks, wires and whole seconds lie between.
pub(crate) const MARGIN: f64 = 0.5;

/// The same for renewals: whole seconds are given, so that in a token's last one the sides may round to different ends.
pub(crate) const RENEWAL_MARGIN: f64 = 1.1;

/// When a token ends: not before, and not after, in seconds since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) earliest: f64,
    pub(crate) latest: f64,
}

/// Which side is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Primary,
    Replica,
}

/// What is known of a token at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Alive,
    Dead,
    /// It ends about now.
    Unsure,
}

/// A token's string and accessor on one side.
#[derive(Clone, Default)]
pub(crate) struct Name {
    pub(crate) token: String,
    pub(crate) accessor: String,
}

/// A token on both sides.
pub(crate) struct Pair {
    pub(crate) primary: Name,
    pub(crate) replica: Name,
    /// Which one it hangs on.
    pub(crate) parent: Option<usize>,
    pub(crate) ends: (End, End),
    /// What it was given at first, in seconds.
    pub(crate) first: (f64, f64),
    /// How far apart the sides may have made it, in seconds.
    pub(crate) apart: f64,
    pub(crate) revoked: bool,
    /// Until when the replica may renew it, where the workload's bounds say so.
    pub(crate) longest: f64,
}

impl Pair {
    fn end(&self, side: Side) -> End {
        match side {
            Side::Primary => self.ends.0,
            Side::Replica => self.ends.1,
        }
    }
}

/// Every token of a sequence, the first one first.
#[derive(Default)]
pub(crate) struct Tokens(pub(crate) Vec<Pair>);

impl Tokens {
    /// Whether a token lives on a side at a moment, give or take `margin`.
    pub(crate) fn life(&self, nr: usize, side: Side, at: f64, margin: f64) -> Life {
        let pair = &self.0[nr];
        let end = pair.end(side);
        if pair.revoked || at > end.latest + margin {
            return Life::Dead;
        }
        let own = match at < end.earliest - margin {
            true => Life::Alive,
            false => Life::Unsure,
        };
        let above = match pair.parent {
            Some(parent) => self.life(parent, side, at, margin),
            None => Life::Alive,
        };
        match (own, above) {
            (_, Life::Dead) => Life::Dead,
            (Life::Unsure, _) | (_, Life::Unsure) => Life::Unsure,
            (own, _) => own,
        }
    }

    /// Whether it is dead because of what it hangs on.
    pub(crate) fn died_with_another(&self, nr: usize, at: f64) -> bool {
        let pair = &self.0[nr];
        let own = pair.revoked || at > pair.ends.0.earliest;
        !own && self.life(nr, Side::Primary, at, MARGIN) == Life::Dead
    }

    /// When the uncertainty about a token has passed, give or take `margin`, if there is any now.
    pub(crate) fn sure_from(&self, nr: usize, at: f64, margin: f64) -> Option<f64> {
        let unsure = [Side::Primary, Side::Replica]
            .into_iter()
            .filter(|side| self.life(nr, *side, at, margin) == Life::Unsure);
        let until = unsure.map(|side| {
            let mut latest = at;
            let mut above = Some(nr);
            while let Some(nr) = above {
                let end = self.0[nr].end(side);
                if at >= end.earliest - margin {
                    latest = latest.max(end.latest + margin);
                }
                above = self.0[nr].parent;
            }
            latest + 0.01
        });
        until.max_by(f64::total_cmp)
    }
}
