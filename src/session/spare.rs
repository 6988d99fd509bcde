//! The places in memory of links. A link begins and ends with every transaction, so its place is used again by the next one of the
//! thread: taking a connection allocates nothing, and an idle session holds nothing for it.

use std::cell::RefCell;

use crate::pool::Lease;

use super::machine::Link;

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
        None => Box::new(Link::new(lease, node, primary)),
        Some(mut place) => {
            let queue = place.replies.take_queue();
            *place = Link::new(lease, node, primary);
            place.replies.use_queue(queue);
            place
        }
    }
}

/// Keeps the place of a link whose lease was returned.
pub(super) fn keep(mut link: Box<Link>) {
    let queue = link.replies.take_queue();
    // Nothing but the queue's memory is to outlive the link.
    link.backlog = Vec::new();
    link.carry = Vec::new();
    link.own_failure = None;
    if queue.is_empty() && queue.capacity() <= KEPT_REPLIES {
        link.replies.use_queue(queue);
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST {
            spare.push(link);
        }
    });
}
