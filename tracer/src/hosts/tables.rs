//! The lines of `/etc/hosts` and `/etc/services`. Any bytes are taken; what makes no sense has no names.

use std::net::IpAddr;

use super::{Key, Named};
use crate::names::bytes_of;

/// Lines of a file with names that are looked at: lists that block advertisements have hundreds of thousands, all
/// of one address.
const MOST: usize = 8_192;
/// RFC 1035, 2.3.4.
const LONGEST: usize = 253;

/// `10.0.0.1 db.internal db # the new one`: address and first name (hosts(5)).
pub(super) fn hosts(text: &[u8]) -> Named<'_> {
    let found = lines(text).filter_map(|mut words| {
        let addr: IpAddr = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let name = words.next()?;
        // What is blocked has this address, and no connection does.
        (!addr.is_unspecified()).then_some((Key::Host(bytes_of(addr)), name))
    });
    found.filter(is_short).take(MOST).collect()
}

/// `postgresql 5432/tcp postgres # comment`: those of TCP (services(5)).
pub(super) fn services(text: &[u8]) -> Named<'_> {
    let found = lines(text).filter_map(|mut words| {
        let name = words.next()?;
        let (port, protocol) = std::str::from_utf8(words.next()?).ok()?.split_once('/')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        (protocol == "tcp").then_some((Key::Port(port), name))
    });
    found.filter(is_short).take(MOST).collect()
}

fn is_short((_, name): &(Key, &[u8])) -> bool {
    name.len() <= LONGEST
}

/// The words of each line, without comments.
fn lines(text: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
    text.split(|&byte| byte == b'\n').map(|line| {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_found() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let found = hosts(text.as_bytes());
            let expect: Vec<(Key, &[u8])> = expect
                .iter()
                .map(|(addr, name)| {
                    let addr: IpAddr = addr.parse().expect("an address");
                    (Key::Host(bytes_of(addr)), name.as_bytes())
                })
                .collect();
            assert_eq!(found, expect, "{text}");
        };
        check("", &[]);
        check("127.0.0.1\tlocalhost\n", &[("127.0.0.1", "localhost")]);
        check("  10.0.0.1  db.internal db # old\r\n", &[("10.0.0.1", "db.internal")]);
        check(
            "::1 ip6-localhost\n2001:db8::1 six",
            &[("::1", "ip6-localhost"), ("2001:db8::1", "six")],
        );
        check("#10.0.0.1 a\n10.0.0.1 # b\n10.0.0 c\n10.0.0.256 d\n", &[]);
        check("0.0.0.0 ads.example\n:: ads.example\n", &[]);
        check(&format!("10.0.0.1 {}\n", "x".repeat(254)), &[]);
        let many: String =
            (0..20_000).map(|i| format!("10.0.{}.{} x\n", i / 256 % 256, i % 256)).collect();
        assert_eq!(hosts(many.as_bytes()).len(), MOST);
    }

    #[test]
    fn services_are_found() {
        let check = |text: &str, expect: &[(u16, &str)]| {
            let found = services(text.as_bytes());
            let expect: Vec<(Key, &[u8])> =
                expect.iter().map(|(port, name)| (Key::Port(*port), name.as_bytes())).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("postgresql\t5432/tcp\tpostgres # comment\n", &[(5432, "postgresql")]);
        check("domain 53/udp\ndomain 53/tcp\n", &[(53, "domain")]);
        check("a 0/tcp\nb 65536/tcp\nc 1/TCP\nd 1\ne\n# f 1/tcp\ng -1/tcp\n", &[]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[0-9a-f:./ \t\n#tcp]{0,200}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                for (_, name) in hosts(bytes).into_iter().chain(services(bytes)) {
                    prop_assert!(!name.is_empty() && name.len() <= LONGEST);
                }
            }
        }
    }
}
