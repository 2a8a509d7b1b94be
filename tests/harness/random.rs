//! Random names and secrets of the harness, and the seed that a test prints.

use crate::failure::{Context, Result};

/// `N` random bytes of the operating system.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(crate::Failure::new)
        .context("randomness")?;
    Ok(bytes)
}

/// `N` random bytes as lower-case hex digits.
pub fn hex<const N: usize>() -> Result<String> {
    Ok(bytes::<N>()?.iter().map(|b| format!("{b:02x}")).collect())
}

/// A random number below `bound`, near enough to uniform for ports and names.
pub fn below(bound: u32) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes()?) % bound.max(1))
}

/// The seed of a run that is given none: the same choices every time. `.cargo/config.toml` has it for properties.
const SEED: u64 = 1;

/// Random numbers that a seed decides: `HOLDOVER_SEED`, a number; `random` for a fresh one; without it, always the same.
pub struct Seeded(u64);

impl Seeded {
    /// The seed of this run, for `what`; it is printed.
    pub fn start(what: &str) -> Result<Seeded> {
        let seed = match std::env::var("HOLDOVER_SEED") {
            Ok(text) if text == "random" => u64::from_le_bytes(bytes()?),
            Ok(text) => text.parse().context(format!("HOLDOVER_SEED={text}"))?,
            Err(_) => SEED,
        };
        eprintln!("{what}: HOLDOVER_SEED={seed}");
        Ok(Seeded(seed))
    }

    /// A generator of its own, which this one decides.
    pub fn fork(&mut self) -> Seeded {
        Seeded(self.below(u64::MAX))
    }

    /// One of `all`, which is not empty.
    pub fn one<T: Copy>(&mut self, all: &[T]) -> T {
        *self.pick(all)
    }

    /// The next number below `bound`, near enough to uniform.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64: each seed gives a full-period sequence.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// Numbers that `seed` decides.
    pub fn of(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// Whether something happens that happens in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// The next number below `len`, as an index.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(u64::MAX))).unwrap_or_default()
    }

    /// One of `from`, which is not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}
