use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

const TCP: Defaults = Defaults {
    transport: Transport::Tcp,
    port: 8866,
};
const EPGM: Defaults = Defaults {
    transport: Transport::Epgm,
    port: 8866,
};
const IPC: Defaults = Defaults {
    transport: Transport::Ipc,
    port: 8866,
};

fn text(defaults: &Defaults, entry: &str) -> String {
    match Endpoint::parse(entry, defaults) {
        Ok(endpoint) => endpoint.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn what_operators_write_becomes_a_canonical_uri() {
    for (defaults, entry, uri) in [
        (&TCP, "10.0.0.1", "tcp://10.0.0.1:8866"),
        (&TCP, "10.0.0.1:9000", "tcp://10.0.0.1:9000"),
        (&TCP, "api1", "tcp://api1:8866"),
        (&TCP, "API_1.Example.org:1", "tcp://api_1.example.org:1"),
        (&TCP, "api1.example.org.", "tcp://api1.example.org.:8866"),
        (&TCP, "3com:65535", "tcp://3com:65535"),
        (&TCP, "::1", "tcp://[::1]:8866"),
        (&TCP, "[::1]", "tcp://[::1]:8866"),
        (&TCP, "[FD00:0:0::1]:9000", "tcp://[fd00::1]:9000"),
        (&TCP, "fd00::1:9000", "tcp://[fd00::1:9000]:8866"),
        (&TCP, "tcp://10.0.0.1:9000", "tcp://10.0.0.1:9000"),
        (&TCP, "tcp://10.0.0.1", "tcp://10.0.0.1:8866"),
        (&TCP, "tcp://[::1]:8866", "tcp://[::1]:8866"),
        (&EPGM, "tcp://::1", "tcp://[::1]:8866"),
        (&TCP, "ipc:///run/f.sock", "ipc:///run/f.sock"),
        (&TCP, "ipc:///run/a@b c", "ipc:///run/a@b c"),
        (&IPC, "/run/f.sock", "ipc:///run/f.sock"),
        (&IPC, "tcp://h:1", "tcp://h:1"),
        (
            &TCP,
            "epgm://10.0.0.1;239.192.1.1:5555",
            "epgm://10.0.0.1;239.192.1.1:5555",
        ),
        (
            &TCP,
            "epgm://10.0.0.0/24;239.192.1.1",
            "epgm://10.0.0.0/24;239.192.1.1:8866",
        ),
        (&EPGM, "10.0.0.1;224.0.0.1:7", "epgm://10.0.0.1;224.0.0.1:7"),
        (&TCP, "memory://a.b-c_1", "memory://a.b-c_1"),
    ] {
        assert_eq!(text(defaults, entry), uri, "{entry}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long = format!("ipc:///{}", "x".repeat(107));
    let label = "x".repeat(64);
    for (defaults, entry, error) in [
        (&TCP, "", "Empty"),
        (&TCP, "10.0.0.1:99999", "Port(\"99999\")"),
        (&TCP, "10.0.0.1:0", "Port(\"0\")"),
        (&TCP, "10.0.0.1:", "Port(\"\")"),
        (&TCP, "10.0.0.1:+80", "Port(\"+80\")"),
        (&TCP, "h:http", "Port(\"http\")"),
        (&TCP, "[::1]:x", "Port(\"x\")"),
        (&TCP, "tcp://h:*", "Port(\"*\")"),
        (&TCP, "10.0.0.256", "Host(\"10.0.0.256\")"),
        (&TCP, "127.1", "Host(\"127.1\")"),
        (&TCP, "1", "Host(\"1\")"),
        (&TCP, ".", "Host(\".\")"),
        (&TCP, "a..b", "Host(\"a..b\")"),
        (&TCP, "-a", "Host(\"-a\")"),
        (&TCP, " 10.0.0.1", "Host(\" 10.0.0.1\")"),
        (&TCP, "a b", "Host(\"a b\")"),
        (&TCP, "eth0;10.0.0.1:1", "Host(\"eth0;10.0.0.1\")"),
        (&TCP, &label, &format!("Host({label:?})")),
        (&TCP, "::1::2", "Ipv6(\"::1::2\")"),
        (&TCP, "[::1", "Ipv6(\"[::1\")"),
        (&TCP, "[::1]8866", "Ipv6(\"[::1]8866\")"),
        (&TCP, "[10.0.0.1]", "Ipv6(\"[10.0.0.1]\")"),
        (&TCP, "fe80::1%eth0", "Zone(\"fe80::1%eth0\")"),
        (&TCP, "tcp://h:1/", "Slash(\"h:1/\")"),
        (&TCP, "/run/f.sock", "Slash(\"/run/f.sock\")"),
        (&TCP, "*", "BindOnly(\"*\")"),
        (&TCP, "tcp://*:8866", "BindOnly(\"*\")"),
        (&TCP, "0.0.0.0", "BindOnly(\"0.0.0.0\")"),
        (&TCP, "[::]:1", "BindOnly(\"::\")"),
        (&TCP, "239.1.1.1", "Multicast(239.1.1.1)"),
        (&TCP, "pgm://10.0.0.1;239.1.1.1:1", "Scheme(\"pgm://\")"),
        (&TCP, "norm://10.0.0.1:1", "Scheme(\"norm://\")"),
        (&TCP, "udp://239.1.1.1:1", "Scheme(\"udp://\")"),
        (&TCP, "inproc://x", "Scheme(\"inproc://\")"),
        (&TCP, "TCP://h", "Scheme(\"TCP://\")"),
        (&TCP, "ipc://", "Empty"),
        (&TCP, "ipc://@name", "IpcRelative(\"@name\")"),
        (&TCP, "ipc://*", "IpcRelative(\"*\")"),
        (&TCP, "ipc://run/x", "IpcRelative(\"run/x\")"),
        (&TCP, "ipc:///run/", "IpcFolder(\"/run/\")"),
        (&TCP, "ipc:///run/..", "IpcFolder(\"/run/..\")"),
        (&TCP, "ipc:///a\0b", "IpcNul"),
        (&TCP, &long, "IpcTooLong(108)"),
        (&IPC, "10.0.0.1", "IpcRelative(\"10.0.0.1\")"),
        (&EPGM, "10.0.0.1", "EpgmForm(\"10.0.0.1\")"),
        (&EPGM, "eth0;239.1.1.1", "EpgmInterface(\"eth0\")"),
        (&EPGM, ";239.1.1.1", "EpgmInterface(\"\")"),
        (
            &EPGM,
            "10.0.0.0/33;239.1.1.1",
            "EpgmInterface(\"10.0.0.0/33\")",
        ),
        (&EPGM, "10.0.0.1;10.0.0.2", "EpgmGroup(\"10.0.0.2\")"),
        (&EPGM, "10.0.0.1;239.1.1.1:0", "Port(\"0\")"),
        (&TCP, "memory://", "MemoryName(\"\")"),
        (&TCP, "memory://a/b", "MemoryName(\"a/b\")"),
    ] {
        assert_eq!(text(defaults, entry), error, "{entry}");
    }
}

#[test]
fn an_error_says_what_to_write() {
    let why = |entry| Endpoint::parse(entry, &TCP).unwrap_err().to_string();
    assert_eq!(
        why("pgm://x"),
        r#""pgm://" is not a known transport; write tcp://, ipc://, epgm:// or memory://"#
    );
    assert_eq!(
        why("h:99999"),
        r#""99999" is not a port; write a number from 1 to 65535"#
    );
    assert_eq!(
        why("239.1.1.1:1"),
        "239.1.1.1 is a multicast group; write epgm://interface;239.1.1.1:port"
    );
}

#[test]
fn binding_allows_every_address_and_no_names() {
    let bind = |entry| Endpoint::parse_bind(entry, &TCP).map(|endpoint| endpoint.to_string());
    assert_eq!(bind("*").unwrap(), "tcp://*:8866");
    assert_eq!(bind("tcp://*:9000").unwrap(), "tcp://*:9000");
    assert_eq!(bind("0.0.0.0").unwrap(), "tcp://0.0.0.0:8866");
    assert_eq!(bind("::").unwrap(), "tcp://[::]:8866");
    assert_eq!(bind("ipc:///x").unwrap(), "ipc:///x");
    assert_eq!(
        bind("localhost").unwrap_err(),
        EndpointError::NameInBind("localhost".into())
    );
    assert_eq!(
        bind("tcp://*:99999").unwrap_err(),
        EndpointError::Port("99999".into())
    );
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    let port = 1..=u16::MAX;
    let host = prop_oneof![
        any::<Ipv4Addr>().prop_map(|ip| Host::Ip(ip.into())),
        any::<Ipv6Addr>().prop_map(|ip| Host::Ip(ip.into())),
        "[a-z0-9_]{1,20}(\\.[a-z0-9]{1,20}){0,3}\\.[a-z]{1,20}".prop_map(Host::Name),
        Just(Host::Any),
    ];
    let card = any::<Ipv4Addr>().prop_filter("a card has an address", |ip| {
        !ip.is_unspecified() && !ip.is_multicast()
    });
    let net = (card, proptest::option::of(1..=32u8)).prop_map(|(ip, bits)| match bits {
        Some(bits) => format!("{ip}/{bits}"),
        None => ip.to_string(),
    });
    prop_oneof![
        (host, port.clone()).prop_map(|(host, port)| Endpoint::Tcp { host, port }),
        "/[^\0/.][^\0/]{0,20}x".prop_map(|path| Endpoint::Ipc { path: path.into() }),
        (net, 224u8..=239, any::<[u8; 3]>(), port).prop_map(|(interface, a, [b, c, d], port)| {
            Endpoint::Epgm {
                interface,
                group: Ipv4Addr::new(a, b, c, d),
                port,
            }
        }),
        "[A-Za-z0-9._-]{1,64}".prop_map(|name| Endpoint::Memory { name }),
    ]
}

fn read(entry: &str, defaults: &Defaults) -> Result<Endpoint, EndpointError> {
    match Endpoint::parse(entry, defaults) {
        Err(EndpointError::BindOnly(_)) => Endpoint::parse_bind(entry, defaults),
        other => other,
    }
}

proptest! {
    #[test]
    fn display_then_parse_is_identity(endpoint in endpoints()) {
        let multicast = matches!(
            &endpoint,
            Endpoint::Tcp { host: Host::Ip(ip), .. } if ip.is_multicast()
        );
        prop_assume!(!multicast);
        let uri = endpoint.to_string();
        for defaults in [TCP, EPGM, IPC] {
            prop_assert_eq!(read(&uri, &defaults), Ok(endpoint.clone()));
        }
    }

    #[test]
    fn what_parses_has_one_canonical_form(
        entry in "(tcp://|ipc://|epgm://|memory://|)[\\[*:;./0-9a-fA-Z_@%\\]-]{0,24}",
    ) {
        for defaults in [TCP, EPGM, IPC] {
            if let Ok(endpoint) = read(&entry, &defaults) {
                prop_assert_eq!(read(&endpoint.to_string(), &defaults), Ok(endpoint));
            }
        }
    }

    #[test]
    fn no_text_panics(entry in ".*", tail in any::<String>()) {
        for scheme in ["", "tcp://", "ipc://", "epgm://", "memory://"] {
            for defaults in [TCP, EPGM, IPC] {
                let entry = format!("{scheme}{entry}{tail}");
                let _ = Endpoint::parse(&entry, &defaults);
                let _ = Endpoint::parse_bind(&entry, &defaults);
            }
        }
    }
}
