//! What must hold on a real Citus as on the stand-in: with `TRUNKLINE_TEST_CITUS=postgres://user:password@coordinator:5432/database` it is
//! tried on both, by the same code.
//!
//! On the stand-in only: what needs catalogs that are written by hand (ranges of any width, workers without metadata, types and defaults
//! of one's own, workers that are another node), servers that are stopped, reconfigured or refuse a user, and standbys.

use super::discovery::{a_shard_that_moves_is_followed, what_the_coordinator_tells_is_known};
use super::target::Target;
use super::{owners, routing};

/// In this order: what is read by default, what is written and read when it is asked for, and a shard that moves at the end.
fn suite(target: &Target) {
    what_the_coordinator_tells_is_known(target);
    routing::by_default(target);
    target.reconfigure("owner_routing = \"all\"");
    owners::are_those_that_citus_names(target);
    routing::when_writes_go_to_the_owner(target);
    target.reconfigure("owner_routing = \"off\"\nreads = \"any_node\"");
    routing::reads_of_several_shards_are_spread_over_all_nodes(target);
    target.reconfigure("");
    a_shard_that_moves_is_followed(target);
}

#[test]
fn the_suite_on_a_real_citus() {
    match Target::real() {
        Some(target) => suite(&target),
        None => eprintln!("skipped: TRUNKLINE_TEST_CITUS names no coordinator"),
    }
}

#[test]
fn the_suite_on_the_stand_in() {
    suite(&Target::standin());
}
