//! The allocator: what is freed is wiped, and goes back to the system.
//!
//! The system's own keeps what many threads freed, for good where memory is locked: it can give back parts of what it has only
//! by advice that the kernel does not take for locked pages. This one unmaps it, as `JEMALLOC_SYS_WITH_MALLOC_CONF` in
//! `.cargo/config.toml` says: nothing is retained, and what was not needed for a second goes, by a thread in the background.

use tikv_jemallocator::Jemalloc;
use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static ALLOCATOR: ZeroAlloc<Jemalloc> = ZeroAlloc(Jemalloc);
