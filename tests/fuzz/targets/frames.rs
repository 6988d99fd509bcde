//! The frame walker, and the views of whatever stands in the frames.

use trunkline::wire::frame::{HEADER, LARGE_LIMIT, backend_limit, frontend_limit};
use trunkline::wire::{BadFrame, ErrorNotice, Frame, FrameWalker, Step, TxStatus, backend, frontend, split_cstr};

/// The first byte says whose frames they are, the second where the stream is cut.
pub fn frames(data: &[u8]) {
    let [who, cut, stream @ ..] = data else { return };
    let limit = if who & 1 == 0 { frontend_limit } else { backend_limit };
    let (whole, end) = walk(stream, limit);
    // What has arrived so far is read in the same way, wherever the network has cut it.
    let cut = usize::from(*cut) * stream.len() / 256;
    let (first, first_end) = walk(&stream[..cut], limit);
    assert_eq!(first, whole[..first.len()], "frames of the first {cut} bytes");
    if first_end.is_err() {
        assert_eq!((&first, first_end), (&whole, end), "an impossible length stays one");
    }
    for frame in &whole {
        look_into(frame);
    }
}

/// The frames, and whether the stream was lost behind them.
fn walk(stream: &[u8], limit: fn(u8) -> u32) -> (Vec<Frame<'_>>, Result<(), BadFrame>) {
    let mut walker = FrameWalker::new(stream);
    let mut frames = Vec::new();
    loop {
        let before = walker.position();
        match walker.step(limit) {
            Ok(Step::Whole(frame)) => {
                assert!(frame.bytes.len() >= HEADER && walker.position() == before + frame.bytes.len());
                assert_eq!(frame.bytes[0], frame.tag);
                frames.push(frame);
            }
            Ok(Step::Partial { tag, frame_len, available }) => {
                assert!(frame_len > available.len() && frame_len <= LARGE_LIMIT as usize + 2);
                assert_eq!((available, available[0]), (walker.rest(), tag));
                return (frames, Ok(()));
            }
            Ok(Step::End) => {
                assert!(walker.rest().len() < HEADER);
                return (frames, Ok(()));
            }
            Err(bad) => return (frames, Err(bad)),
        }
    }
}

/// Every view of every body: what type the message has is for others to know.
fn look_into(frame: &Frame<'_>) {
    let body = frame.body();
    if let Some(parse) = frontend::parse(body) {
        assert_eq!(parse.types.len() % 4, 2);
    }
    if let Some(head) = frontend::bind_head(body) {
        let rest = &body[head.rest..];
        if let Some(values) = frontend::bind_parameters(rest) {
            let held: usize = values.map(|bound| bound.value.map_or(0, <[u8]>::len)).sum();
            assert!(held <= rest.len());
        }
    }
    if let Some(sql) = frontend::query(body) {
        assert_eq!(sql.len() + 1, body.len());
    }
    let _ = (frontend::object(body), frontend::execute(body), split_cstr(body));
    let _ = (backend::parameter_status(body), backend::key_data(body), backend::notification(body));
    let _ = (backend::command_rows(body), body.first().copied().map(TxStatus::from_byte));
    let _ = ErrorNotice::field_of(body, b'M');
    let notice = ErrorNotice::decode(body);
    // What we tell of a server's error can be read again, whatever it held.
    let mut told = Vec::new();
    notice.encode(&mut told);
    let mut walker = FrameWalker::new(&told);
    let Ok(Step::Whole(again)) = walker.step(backend_limit) else { panic!("an error that can't be read") };
    let again = ErrorNotice::decode(again.body());
    assert_eq!((again.code, again.severity), (notice.code, notice.severity));
    assert_eq!(ErrorNotice::sqlstate_of(&told[HEADER..]), notice.code);
}
