//! The places in memory of links. A link begins and ends with every transaction, so its place is used again by the next one of the
//! thread: taking a connection allocates nothing, and an idle session holds nothing for it.

use std::cell::RefCell;

use crate::pool::Lease;

use super::machine::Link;
use super::replies::Replies;

/// Most places that a thread keeps for links to come.
const MOST: usize = 64;
/// Longest queue of replies that is kept with a place.
const KEPT_REPLIES: usize = 64;

thread_local! {
    // The places themselves are what is kept.
    #[allow(clippy::vec_box)]
    static SPARE: RefCell<Vec<Box<Link>>> = const { RefCell::new(Vec::new()) };
}

/// A new link, in a place that another one has left if there is one.
pub(super) fn place(lease: Lease, node: usize, primary: bool) -> Box<Link> {
    match SPARE.with_borrow_mut(Vec::pop) {
        None => Box::new(Link::new(lease, node, primary, Replies::default())),
        Some(mut place) => {
            let replies = place.replies.renew();
            *place = Link::new(lease, node, primary, replies);
            place
        }
    }
}

/// Keeps the place of a link whose lease was returned.
pub(super) fn keep(mut link: Box<Link>) {
    // Nothing but the queue's memory is to outlive the link.
    link.backlog = Vec::new();
    link.carry = Vec::new();
    link.own_failure = None;
    link.replies.shrink(KEPT_REPLIES);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST {
            spare.push(link);
        }
    });
}
