//! Inputs made of others: pieces are taken out, doubled, changed, and put in from a dictionary or
//! from another seed.

use fastrand::Rng;

/// The most changes to one input, and the most bytes of one.
const CHANGES: usize = 8;
const LONGEST: usize = 16 * 1024;

/// What breaks readers of text now and then, whatever they read.
const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\"",
    b"\\",
    b"\\u0000",
    b"%00",
    b"%2e",
    b"../",
    b",",
    b";",
    b":",
    b"=",
    b"[",
    b"]",
    b"{",
    b"}",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"1e999",
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\xff",
    b"\xc3",
];

/// Makes inputs.
pub(crate) struct Mutator {
    random: Rng,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// From seeds, and the words of a dictionary of libFuzzer's.
    pub(crate) fn new(seeds: Vec<Vec<u8>>, dictionary: &str) -> Self {
        let words = dictionary.lines().filter_map(word);
        let words = words.chain(WORDS.iter().map(|word| word.to_vec())).collect();
        Self { random: Rng::new(), seeds, words }
    }

    /// The next input.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..self.random.usize(1..=CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&mut self) -> &[u8] {
        let at = self.random.usize(..self.seeds.len());
        &self.seeds[at]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.piece(input.len());
        match self.random.u8(0..8) {
            0 => drop(input.drain(from..to)),
            1 => {
                let piece = input[from..to].to_vec();
                input.splice(from..from, piece);
            }
            2 | 3 => {
                let word = self.random.usize(..self.words.len());
                let word = self.words[word].clone();
                // Instead of a piece, or between two.
                let to = if self.random.bool() { to } else { from };
                input.splice(from..to, word);
            }
            4 => {
                let other = self.seed().to_vec();
                let (other_from, other_to) = self.piece(other.len());
                input.splice(from..to, other[other_from..other_to].iter().copied());
            }
            5 if from < to => input[from] ^= 1 << self.random.u8(0..8),
            6 if from < to => input[from] = self.random.u8(..),
            _ if from < to => input[from] = self.random.u8(b' '..=b'~'),
            _ => input.push(self.random.u8(b' '..=b'~')),
        }
    }

    /// A piece of so many bytes, most often a short one.
    fn piece(&mut self, length: usize) -> (usize, usize) {
        let from = self.random.usize(..=length);
        let most = if self.random.u8(0..4) == 0 { length } else { 8 };
        (from, from.saturating_add(self.random.usize(..=most)).min(length))
    }
}

/// A line of a dictionary: a word in quotes, with `\xAB`, `\\` and `\"` inside.
fn word(line: &str) -> Option<Vec<u8>> {
    let inside = line.split_once('"')?.1.rsplit_once('"')?.0;
    let mut word = Vec::new();
    let mut bytes = inside.bytes();
    while let Some(byte) = bytes.next() {
        let literal = match byte {
            b'\\' => match bytes.next()? {
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
                }
                escaped => escaped,
            },
            plain => plain,
        };
        word.push(literal);
    }
    Some(word)
}

#[test]
fn a_dictionary_is_read_as_libfuzzer_reads_it() {
    assert_eq!(word(r#""\x0ahost:""#).as_deref(), Some(&b"\nhost:"[..]));
    assert_eq!(word(r#"name="a\"\\b""#).as_deref(), Some(&b"a\"\\b"[..]));
    assert_eq!(word("# a remark"), None);
}
