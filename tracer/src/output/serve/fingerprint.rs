//! What a leak is known by on every machine: the rule, the code that opened the sockets, and the port.

use crate::engine::rules::{Finding, RuleId};

/// FNV-1a, 64 bits: short, published, and the same in every version of tcptrail.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// Hexadecimal digits of letters at the end of a class that Spring makes: as many at least.
const HASH_DIGITS: usize = 6;

/// Of a finding: sixteen hexadecimal digits.
pub(super) fn of(finding: &Finding) -> String {
    let port = finding.remote.map(|remote| remote.port());
    let place = match (port, finding.local_port) {
        (Some(port), _) => Place::Remote(port),
        (None, Some(port)) => Place::Local(port),
        (None, None) => Place::None,
    };
    format!("{:016x}", hash(finding.rule, finding.opener.as_deref(), place))
}

/// Where the connections go to, or come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Remote(u16),
    Local(u16),
    None,
}

fn hash(rule: RuleId, opener: Option<&str>, place: Place) -> u64 {
    let (side, port) = match place {
        Place::Remote(port) => ("remote", port),
        Place::Local(port) => ("local", port),
        Place::None => ("", 0),
    };
    let text = format!("{}\n{}\n{side}\n{port}", rule.name(), plain(opener.unwrap_or_default()));
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// Class and method without what differs from run to run: numbers of lambdas, proxies and accessors, the
/// addresses of hidden classes, hashes of classes that a framework makes, line numbers.
pub(super) fn plain(opener: &str) -> String {
    let mut name = opener.to_owned();
    // What one step leaves may end in what the next takes away. Each makes it shorter.
    loop {
        let next = step(&name);
        if next == name {
            return name;
        }
        name = next;
    }
}

fn step(name: &str) -> String {
    // Crawler.fetch:42
    let method = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let method = method.strip_suffix(':').filter(|_| method.len() < name.len()).unwrap_or(name);
    // com.acme.Crawler$$Lambda/0x00007f2a4c0.run
    let without_address = method.split('.').map(|part| part.split('/').next().unwrap_or_default());
    without_address.map(plain_part).collect::<Vec<_>>().join(".")
}

/// One part between dots: `Crawler$$Lambda$14`, `lambda$fetch$0`, `$Proxy12`.
fn plain_part(part: &str) -> String {
    if !part.contains('$') && !part.contains("Accessor") {
        return part.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut generated = false;
    for piece in part.split('$') {
        let number = !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit());
        let hash = generated
            && piece.len() >= HASH_DIGITS
            && piece.bytes().all(|byte| byte.is_ascii_hexdigit());
        generated = generated || piece.is_empty();
        if !number && !hash {
            kept.push(without_number(piece));
        }
    }
    while kept.len() > 1 && kept.last().is_some_and(|last| last.is_empty()) {
        kept.pop();
    }
    kept.join("$")
}

/// `Proxy12`, `Lambda14`, `GeneratedMethodAccessor7`: those are numbered as they are made.
fn without_number(piece: &str) -> &str {
    let name = piece.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = ["Proxy", "Lambda", "Accessor"].iter().any(|end| name.ends_with(end));
    if numbered { name } else { piece }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        let check = |opener: &str, expect: &str| assert_eq!(plain(opener), expect, "{opener}");
        check("com.acme.Crawler.fetch", "com.acme.Crawler.fetch");
        check("com.acme.Crawler.fetch:42", "com.acme.Crawler.fetch");
        check("com.acme.Crawler.lambda$fetch$0", "com.acme.Crawler.lambda$fetch");
        check("com.acme.Crawler$1.run", "com.acme.Crawler.run");
        check("com.acme.Crawler$Task.run", "com.acme.Crawler$Task.run");
        check("com.acme.Crawler$$Lambda$14.run", "com.acme.Crawler$$Lambda.run");
        check("com.acme.Crawler$$Lambda/0x00000000b6080438.run", "com.acme.Crawler$$Lambda.run");
        check("com.sun.proxy.$Proxy12.get", "com.sun.proxy.$Proxy.get");
        check("a.GeneratedMethodAccessor7.invoke", "a.GeneratedMethodAccessor.invoke");
        check("a.S$$EnhancerBySpringCGLIB$$9af3c1d2.get", "a.S$$EnhancerBySpringCGLIB.get");
        check("a.S$$SpringCGLIB$$0.get", "a.S$$SpringCGLIB.get");
        // Numbers that people gave.
        check("com.acme.Http2Client.connect", "com.acme.Http2Client.connect");
        check("acme::net::connect", "acme::net::connect");
        check("", "");
    }

    #[test]
    fn known_values_stay_as_they_are() {
        // Dashboards and alerts may have them.
        let one = hash(RuleId::CloseWait, Some("com.acme.Crawler.fetch"), Place::Remote(5432));
        assert_eq!(format!("{one:016x}"), KNOWN);
    }

    const KNOWN: &str = "f89c96f4aec34834";

    proptest! {
        #[test]
        fn once_plain_it_stays_plain(opener in "[a-zA-Z0-9$./:]{0,60}") {
            let once = plain(&opener);
            prop_assert_eq!(plain(&once), once);
        }

        #[test]
        fn numbers_of_lambdas_and_lines_do_not_count(
            class in "[a-z]{1,8}(\\.[A-Z][a-z]{0,8}){1,3}", method in "[a-z]{1,8}", one in 0..9999_u32, other in 0..9999_u32,
        ) {
            for form in ["{c}.lambda${m}${n}", "{c}$${n}.{m}", "{c}$$Lambda${n}.{m}", "{c}.{m}:{n}"] {
                let name = |n: u32| {
                    let text = form.replace("{c}", &class).replace("{m}", &method);
                    text.replace("{n}", &n.to_string())
                };
                let hash = |n| hash(RuleId::CloseWait, Some(&name(n)), Place::Remote(80));
                prop_assert_eq!(hash(one), hash(other), "{} {}", name(one), name(other));
            }
        }

        #[test]
        fn rule_place_and_method_count(port in 1..65_535_u16, method in "[a-z]{1,8}", other in "[A-Z]{1,8}") {
            let hash_of = |rule, method: &str, place| hash(rule, Some(method), place);
            let first = hash_of(RuleId::CloseWait, &method, Place::Remote(port));
            for differs in [
                hash_of(RuleId::LastAck, &method, Place::Remote(port)),
                hash_of(RuleId::CloseWait, &other, Place::Remote(port)),
                hash_of(RuleId::CloseWait, &method, Place::Remote(port + 1)),
                hash_of(RuleId::CloseWait, &method, Place::Local(port)),
                hash_of(RuleId::CloseWait, &method, Place::None),
            ] {
                prop_assert_ne!(first, differs);
            }
        }
    }
}
