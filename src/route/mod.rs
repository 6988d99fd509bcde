//! Decisions: where a statement goes, and why.

mod breaker;
mod cache;
mod explain;
mod learned;
mod rules;

pub use breaker::{Breaker, Breaking, Failing, Passage};
pub use cache::{DecisionCache, MAX_CACHED_TEXT};
pub use explain::{RouteReport, RouteRow, explain, explain_for, explain_offline};
pub use learned::{LearnedStatement, RerunCause};
