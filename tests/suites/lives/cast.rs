//! The tokens of a life: what each is here and at the primary, and what Holdover was told of it.

/// How a token came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Basis {
    /// It was brought.
    Brought,
    /// By the attested login.
    Attested,
    /// By a login of the AppRole.
    AppRole,
    /// By this one.
    Of(usize),
}

/// A token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) name: String,
    /// What is presented here.
    pub(crate) here: String,
    /// What is asked with at the primary: the same, or for one that the replica issued what the primary made of the same
    /// request.
    pub(crate) there: String,
    /// What names it here, and what names it there.
    pub(crate) accessors: (String, String),
    pub(crate) basis: Basis,
    /// What it dies with.
    pub(crate) parent: Option<usize>,
    /// Whether Holdover has seen of whom it is a child.
    pub(crate) parent_seen: bool,
    /// The outage that the replica issued it in.
    pub(crate) outage: Option<usize>,
    /// What the primary would have made on the same basis when that outage ended: a token, or none.
    pub(crate) settled: Option<Option<String>>,
    /// Holdover has seen it used.
    pub(crate) learned: bool,
    /// Of another namespace.
    pub(crate) foreign: bool,
    /// Holdover was told that it is revoked.
    pub(crate) revoked_here: bool,
    /// The primary was told so.
    pub(crate) revoked_there: bool,
    /// The primary refused it to its holder.
    pub(crate) refused: bool,
    /// The primary took it since the last outage.
    pub(crate) proved: bool,
    /// It was revoked by a request after the last pass.
    pub(crate) told_since: bool,
    /// A pass has ended since the last outage in which Holdover saw it: what it knows of it is stored.
    pub(crate) stored: bool,
}

impl Token {
    pub(crate) fn new(
        name: impl Into<String>,
        basis: Basis,
        (token, accessor): (String, String),
    ) -> Token {
        Token {
            name: name.into(),
            here: token.clone(),
            there: token,
            accessors: (accessor.clone(), accessor),
            basis,
            parent: None,
            parent_seen: false,
            outage: None,
            settled: None,
            learned: false,
            foreign: false,
            revoked_here: false,
            revoked_there: false,
            refused: false,
            proved: false,
            told_since: false,
            stored: false,
        }
    }

    /// Whether the replica issued it.
    pub(crate) fn is_replicas(&self) -> bool {
        self.outage.is_some()
    }

    /// Holdover was killed: what it saw in the moments before may be lost, where the client had its answer already. It learns
    /// it again at the next use.
    pub(crate) fn killed(&mut self, is_listed: bool) {
        if !self.stored && !self.is_replicas() {
            self.learned &= is_listed;
            self.proved = false;
        }
    }
}

/// All of a life, in the order of their making.
#[derive(Default)]
pub(crate) struct Tokens(pub(crate) Vec<Token>);

impl Tokens {
    fn line(&self, nr: usize) -> impl Iterator<Item = &Token> {
        std::iter::successors(self.0.get(nr), |token| self.0.get(token.parent?))
    }

    /// Whether Holdover knows that it is dead: it, or one above it that it was seen to be made by.
    pub(crate) fn is_dead_here(&self, nr: usize) -> bool {
        let mut seen = true;
        self.line(nr).any(|token| {
            let dead = seen && token.revoked_here;
            seen &= token.parent_seen;
            dead
        })
    }

    /// Whether one above it was revoked here, of which Holdover does not know that it is above it. The primary ends it;
    /// a pass tells.
    pub(crate) fn may_be_dead(&self, nr: usize) -> bool {
        self.line(nr).any(|token| token.revoked_here)
    }

    /// Whether the primary was told that it, or one above it, is revoked.
    pub(crate) fn is_dead_there(&self, nr: usize) -> bool {
        self.line(nr).any(|token| token.revoked_there)
    }

    /// Whether it, or one above it, was revoked by a request after the last pass.
    pub(crate) fn told_since(&self, nr: usize) -> bool {
        self.line(nr).any(|token| token.told_since)
    }

    /// Whether the primary took it, and those that it was seen to be made by, since the last outage. What the replica issued
    /// is proved by what it hangs on.
    pub(crate) fn is_proved(&self, nr: usize) -> bool {
        let mut seen = true;
        self.line(nr).all(|token| {
            let proved = !seen || token.proved || token.is_replicas();
            seen &= token.parent_seen;
            proved
        })
    }

    /// Whether it is, or may be, a person's: of an entity, which decides with it.
    pub(crate) fn has_entity(&self, nr: usize) -> bool {
        let logged_in = |token: &Token| token.basis == Basis::AppRole || token.name == "ann";
        self.line(nr).any(logged_in) || self.origin(nr) == Basis::AppRole
    }

    pub(crate) fn has_children(&self, nr: usize) -> bool {
        self.0.iter().any(|token| token.parent == Some(nr))
    }

    /// The login that it goes back to.
    pub(crate) fn origin(&self, nr: usize) -> Basis {
        match self.0[nr].basis {
            Basis::Of(parent) => self.origin(parent),
            basis => basis,
        }
    }
}
