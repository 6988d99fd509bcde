//! Fingerprints: 128 bits that all texts share which differ only in literals, comments, case and white space.

use super::fold::{Folded, Item};
use super::hint::Hint;
use super::lexer::{Kind, LexOptions};

#[cfg(test)]
mod tests;

/// Identifies a statement regardless of its literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u128);

impl std::fmt::Display for Fingerprint {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The fingerprint by which people know a statement: the same in every process and every run. Not for a cache that
/// several clients share, since two texts can be made to collide by those who know the seed.
pub fn fingerprint(sql: &[u8], opts: LexOptions) -> Fingerprint {
    hash::<false>(sql, opts, STABLE_SEED)
}

/// The fingerprint under a secret seed, for caches. It tells numbers from strings, since a text with one may be an
/// error where the other is not, and the error's decision must not be taken for the statement's.
pub fn fingerprint_seeded(sql: &[u8], opts: LexOptions, seed: [u64; 2]) -> Fingerprint {
    hash::<true>(sql, opts, seed)
}

fn hash<const KINDS: bool>(sql: &[u8], opts: LexOptions, seed: [u64; 2]) -> Fingerprint {
    let mut hash = Mixer { a: seed[0] ^ u64::from(opts.bits()), b: seed[1] };
    let mut items = Folded::new(sql, opts);
    let text = items.text();
    let mut semicolons = 0u32;
    let mut any = false;
    while let Some(item) = items.next() {
        let (kind, bytes) = match item {
            // Empty statements don't count: `SELECT 1` and `SELECT 1;` are one.
            Item::Token(token) if token.kind == Kind::Semicolon => {
                semicolons += 1;
                continue;
            }
            Item::Token(token) => (token.kind as u8, token.of(text)),
            Item::Literal(token) if KINDS => (token.kind as u8, &b""[..]),
            Item::Literal(_) => (LITERAL, &b""[..]),
        };
        if semicolons > 0 && any {
            hash.token(Kind::Semicolon as u8, b"");
        }
        semicolons = 0;
        any = true;
        if kind == Kind::Word as u8 { hash.word(kind, bytes) } else { hash.token(kind, bytes) }
    }
    if !opts.safe_encoding && !text.is_ascii() {
        // What we took for literals and comments may be something else: no text with other bytes is the same.
        hash.token(UNSAFE, b"");
    }
    match items.hint {
        None => {}
        Some(Hint::Replica) => hash.token(HINTED, b"replica"),
        Some(Hint::Primary) => hash.token(HINTED, b"primary"),
    }
    if let Some(level) = items.level {
        hash.token(LEVEL, level.as_str().as_bytes());
    }
    hash.finish()
}

/// In the place of a kind: any literal.
const LITERAL: u8 = 0x40;
/// In the place of a kind: a hint.
const HINTED: u8 = 0x41;
/// In the place of a kind: a level of consistency.
const LEVEL: u8 = 0x43;
/// In the place of a kind: the text can't be cut safely.
const UNSAFE: u8 = 0x42;

// Odd 64-bit constants without structure: the first digits of the fractions of √2, √3, √5, √7, √11 and √13.
const STABLE_SEED: [u64; 2] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b];
const MUL_A: u64 = 0x3c6e_f372_fe94_f82b;
const MUL_B: u64 = 0xa54f_f53a_5f1d_36f1;
const END_A: u64 = 0x510e_527f_ade6_82d1;
const END_B: u64 = 0x9b05_688c_2b3e_6c1f;

/// Two 64-bit lanes of folded multiplication.
struct Mixer {
    a: u64,
    b: u64,
}

fn folded_mul(x: u64, y: u64) -> u64 {
    let wide = u128::from(x) * u128::from(y);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Mixer {
    #[inline]
    fn full(&mut self, chunk: u64) {
        self.a = folded_mul(self.a ^ chunk, MUL_A).rotate_left(17);
        self.b = folded_mul(self.b.wrapping_add(chunk), MUL_B).rotate_left(29);
    }

    /// The last, partial chunk of a token: up to 7 bytes, and above them its kind. Other multipliers than for full
    /// chunks, so that no token can pass for the end of another.
    #[inline]
    fn last(&mut self, chunk: u64, kind: u8) {
        let chunk = chunk | (u64::from(kind) << 56);
        self.a = folded_mul(self.a ^ chunk, END_A).rotate_left(23);
        self.b = folded_mul(self.b.wrapping_add(chunk), END_B).rotate_left(31);
    }

    #[inline]
    fn token(&mut self, kind: u8, bytes: &[u8]) {
        self.mix::<false>(kind, bytes);
    }

    #[inline]
    fn word(&mut self, kind: u8, bytes: &[u8]) {
        self.mix::<true>(kind, bytes);
    }

    #[inline]
    fn mix<const LOWER: bool>(&mut self, kind: u8, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let fold = |chunk: u64| if LOWER { lower(chunk) } else { chunk };
        for chunk in chunks {
            self.full(fold(u64::from_le_bytes(*chunk)));
        }
        let tail = partial(rest);
        // Shorter tails end in zero bytes, which no text holds.
        self.last(fold(tail), kind);
    }

    fn finish(mut self) -> Fingerprint {
        self.full(END_A);
        let (a, b) = (self.a, self.b);
        self.full(b ^ END_B);
        let high = folded_mul(self.a ^ b, MUL_B);
        let low = folded_mul(self.b ^ a, MUL_A);
        Fingerprint((u128::from(high) << 64) | u128::from(low))
    }
}

/// Up to seven bytes as a number, the first lowest.
#[inline]
fn partial(bytes: &[u8]) -> u64 {
    // Two reads that may overlap: where they do, they agree.
    if let (Some(low), Some(high)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = 8 * (bytes.len() - 4) as u32;
        return u64::from(u32::from_le_bytes(*low)) | (u64::from(u32::from_le_bytes(*high)) << shift);
    }
    if let (Some(low), Some(high)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        let shift = 8 * (bytes.len() - 2) as u32;
        return u64::from(u16::from_le_bytes(*low)) | (u64::from(u16::from_le_bytes(*high)) << shift);
    }
    bytes.first().copied().map_or(0, u64::from)
}

/// ASCII lower case of eight bytes at once.
#[inline]
fn lower(x: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low7 = x & !HIGH;
    let from_a = low7 + (0x80 - u64::from(b'A')) * ONES;
    let above_z = low7 + (0x80 - u64::from(b'Z') - 1) * ONES;
    x | (((from_a & !above_z & !x) & HIGH) >> 2)
}
