//! PostgreSQL's hash functions, as the hash operator classes of its types use them (`hash_bytes` and the like, on machines whose
//! least byte comes first): Bob Jenkins's lookup3 with PostgreSQL's own seed.

/// Of any bytes: texts, `bytea`, `uuid`.
pub(super) fn of_bytes(bytes: &[u8]) -> i32 {
    let seed = seed(bytes.len() as u32);
    let [mut a, mut b, mut c] = [seed; 3];
    let (chunks, rest) = bytes.as_chunks::<12>();
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<4>();
        a = a.wrapping_add(u32::from_le_bytes(words[0]));
        b = b.wrapping_add(u32::from_le_bytes(words[1]));
        c = c.wrapping_add(u32::from_le_bytes(words[2]));
        (a, b, c) = mix(a, b, c);
    }
    let mut last = [0u8; 12];
    for (at, byte) in rest.iter().enumerate() {
        // The lowest byte of the third word is kept for the length, which the seed holds already.
        last[if at < 8 { at } else { at + 1 }] = *byte;
    }
    let (words, _) = last.as_chunks::<4>();
    a = a.wrapping_add(u32::from_le_bytes(words[0]));
    b = b.wrapping_add(u32::from_le_bytes(words[1]));
    c = c.wrapping_add(u32::from_le_bytes(words[2]));
    last_mix(a, b, c)
}

/// Of 32 bits: `date`, `boolean`, and what [`of_int8`] comes to.
pub(super) fn of_int4(value: i32) -> i32 {
    let seed = seed(4);
    last_mix(seed.wrapping_add(value as u32), seed, seed)
}

/// Of 64 bits: `bigint`, the timestamps. Equal to [`of_int4`] where the value fits it, so that integers of all widths agree.
pub(super) fn of_int8(value: i64) -> i32 {
    let (low, high) = (value as u32, (value >> 32) as u32);
    of_int4((low ^ if value >= 0 { high } else { !high }) as i32)
}

fn seed(len: u32) -> u32 {
    0x9e37_79b9u32.wrapping_add(len).wrapping_add(3_923_095)
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

fn last_mix(mut a: u32, mut b: u32, mut c: u32) -> i32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24)) as i32
}
