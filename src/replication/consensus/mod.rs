//! One Raft group: openraft, and what it leaves to be done around it.
//!
//! ```text
//! group        start, stop, what others see of it (leadership, applied)
//! timers       when to stand, beat, give up: decides only        pulse       does what timers say
//! propose      commands into the log, in the order of the calls  barrier     reads that miss nothing
//! answer       other nodes' questions                            ask         questions to the leader
//! transfer     leadership goes over on purpose                   spread      each node leads as many groups
//! members      who belongs to it                                 keep        how much of the log is kept
//! network      openraft's way to the other nodes                 quorum      majorities
//! durable      nothing counts that is not on the disk            telling     followers learn what is committed
//! pace         Raft hears no faster what is committed            status      what administrators see
//! ```
//!
//! openraft decides who won; this module decides when anybody stands.

mod answer;
mod ask;
mod barrier;
mod durable;
mod group;
mod keep;
mod members;
mod network;
mod pace;
mod propose;
mod pulse;
mod quorum;
mod spread;
mod status;
mod telling;
mod timers;
mod transfer;

pub use ask::{AskError, Services};
pub use barrier::BarrierError;
pub use group::{Group, GroupError, GroupOptions, Leadership};
pub use keep::{Keep, purge_upto};
pub use members::ChangeError;
pub use network::{CatchUp, CatchUpError};
pub use pace::MAX_UNAPPLIED;
pub use propose::{ProposeError, Proposed};
pub use spread::{Lead, Move, spread};
pub use status::{GroupStatus, MemberStatus};
pub use timers::TimerSettings;
pub use transfer::TransferError;
