//! Loops that look at all of something where they could stop, or go over it twice, because that is
//! faster: the rules that need them say what they mean, and how is said here.

/// Whether all of them are such. Each is looked at, also behind one that is not: many are compared at
/// once, which takes less than to stop at the first.
#[inline]
pub(crate) fn all<T>(of: impl IntoIterator<Item = T>, such: impl Fn(T) -> bool) -> bool {
    of.into_iter().fold(true, |all, one| all & such(one))
}

/// How many bytes at the beginning are such, found sixteen at a time.
#[inline]
pub(crate) fn prefix(bytes: &[u8], such: impl Fn(u8) -> bool) -> usize {
    let (pieces, _) = bytes.as_chunks::<16>();
    let whole = 16 * pieces.iter().take_while(|piece| all(**piece, &such)).count();
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().take_while(|byte| such(**byte)).count()
}

/// A text out of the parts that `each` hands over. They are measured first, so that the text has its
/// size from the beginning.
#[inline]
pub(crate) fn concatenated(each: impl Fn(&mut dyn FnMut(&str))) -> String {
    let mut length = 0;
    each(&mut |part| length += part.len());
    let mut text = String::with_capacity(length);
    each(&mut |part| text.push_str(part));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_with_the_last_that_is_such_wherever_pieces_end() {
        for length in 0..40 {
            let mut bytes = vec![b'1'; length];
            assert_eq!(prefix(&bytes, |byte| byte.is_ascii_digit()), length);
            assert!(all(&bytes, |byte| byte.is_ascii_digit()));
            bytes.extend(b"x1");
            assert_eq!(prefix(&bytes, |byte| byte.is_ascii_digit()), length);
            assert!(!all(&bytes, |byte| byte.is_ascii_digit()));
        }
    }

    #[test]
    fn a_text_has_the_size_of_its_parts() {
        let text = concatenated(|put| ["a", "", "bcd"].into_iter().for_each(put));
        assert_eq!((text.as_str(), text.capacity()), ("abcd", 4));
    }
}
