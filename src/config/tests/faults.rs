use super::*;

#[test]
fn all_faults_are_reported_at_once() {
    let case = Case {
        files: &[
            (
                "agent.toml",
                "publisher_prot = 1\n\
                 publishers_ips = [\"10.0.0.1:99999\", \"::1\", \"pgm://x\"]\n\
                 topics = [\"ok\", \"\", 7]\n\
                 connect_timeout = nan\n\
                 log_level = \"inof\"\n\
                 [publisher]\n\
                 port = 1\n",
            ),
            ("conf.d/a.toml", "queue_length = \"many\"\nqueue_length = 2"),
            (
                "conf.d/b.toml",
                "pub_sub_driver = \"zmq\"\nmonitor_table_poll_time = 5\n\nreconnect_max = 0.05\n",
            ),
        ],
        env: &[
            ("FANFARE_RECEIVE_HWM", "0"),
            ("FANFARE_PUBLISHER_PORT", "tcp://10.0.0.1:8866"),
            ("FANFARE_QUEUE_LEN", "1"),
        ],
        sets: &[
            "state_dir=var",
            "hwm",
            "topic=a",
            "queue_bytes=1.5",
            "max_message_size=1\nx = 2",
            "stop_timeout=[1",
        ],
        ..Case::default()
    };
    assert_eq!(
        case.agent_faults(),
        [
            "agent.toml:6: publisher: unknown key; did you mean `publisher_keys`?",
            "agent.toml:1: publisher_prot: unknown key; did you mean `publisher_port`?",
            "conf.d/a.toml:2: duplicate key `queue_length` in document root",
            "FANFARE_QUEUE_LEN: queue_len: unknown key; did you mean `queue_length`?",
            "--set: \"hwm\" has no value; write key=value",
            "--set: stop_timeout: is not TOML: invalid array; expected `]`",
            "--set: topic: unknown key; did you mean `topics`?",
            "conf.d/b.toml:1: pub_sub_driver: \"zmq\" is not a driver; known are zmq_pubsub_driver, zmq_pubsub_multiproc_driver",
            "FANFARE_PUBLISHER_PORT: publisher_port: \"tcp://10.0.0.1:8866\" is not a port number from 1 to 65535",
            "agent.toml:3: topics: \"\": a topic must not be empty",
            "agent.toml:3: topics: 7 is not a text; write it in quotes",
            "--set: state_dir: \"var\" is not an absolute path of at most 1024 bytes",
            "agent.toml:5: log_level: \"inof\" is not a level (off, error, warn, info, debug, trace); write for example info, or info,fanfare::pubsub=debug",
            "agent.toml:4: connect_timeout: NaN is not a number of seconds from 0.1 to 300",
            "--set: max_message_size: \"1\\nx = 2\" is not a whole number of bytes from 1024 to 1073741824",
            "FANFARE_RECEIVE_HWM: receive_hwm: 0 is not a whole number of messages from 1 to 10000000",
            "--set: queue_bytes: 1.5 is not a whole number of bytes from 1024 to 4294967296",
            "agent.toml:2: publishers_ips: \"10.0.0.1:99999\": \"99999\" is not a port; write a number from 1 to 65535",
            "agent.toml:2: publishers_ips: \"pgm://x\": \"pgm://\" is not a known transport; write tcp://, ipc://, epgm:// or memory://",
            "conf.d/b.toml:4: reconnect_max: 0.05 is below reconnect_min, which is 0.1",
        ]
    );
}

#[test]
fn one_bad_value_one_line() {
    for (line, fault) in [
        (
            "publisher_port = 0",
            "0 is not a port number from 1 to 65535",
        ),
        (
            "publisher_port = 65536",
            "65536 is not a port number from 1 to 65535",
        ),
        (
            "publisher_port = 8866.0",
            "8866.0 is not a port number from 1 to 65535",
        ),
        (
            "publisher_port = \"8866\"",
            "\"8866\" is not a port number from 1 to 65535",
        ),
        (
            "publisher_port = [1]",
            "a list is not a port number from 1 to 65535",
        ),
        (
            "publisher_transport = \"udp\"",
            "\"udp\" is not tcp, epgm or ipc",
        ),
        ("security = \"None\"", "\"None\" is not curve or none"),
        ("security = true", "true is not curve or none"),
        (
            "enable_selective_topology_distribution = \"yes\"",
            "\"yes\" is not true or false",
        ),
        (
            "topics = \"D\"",
            "\"D\" is not a list of topics, such as [\"tenant1\", \"tenant2\"]",
        ),
        (
            "topics = [\"\\u0001x\"]",
            "\"\\u{1}x\": topics that begin with byte 0x01 are reserved",
        ),
        (
            "stop_timeout = 61",
            "61 is not a number of seconds from 0.1 to 60",
        ),
        (
            "stop_timeout = -1",
            "-1 is not a number of seconds from 0.1 to 60",
        ),
        (
            "stop_timeout = inf",
            "inf is not a number of seconds from 0.1 to 60",
        ),
        (
            "max_message_size = 1023",
            "1023 is not a whole number of bytes from 1024 to 1073741824",
        ),
        (
            "state_dir = \"\"",
            "\"\" is not an absolute path of at most 1024 bytes",
        ),
        (
            "run_dir = 2020-01-01",
            "a table is not an absolute path of at most 80 bytes",
        ),
        (
            "handler = {}",
            "a table is not a list of tables; write [[handler]] above each",
        ),
        (
            "handler = [1]",
            "a list is not a list of tables; write [[handler]] above each",
        ),
        (
            "pub_sub_driver = \"redis\"",
            "\"redis\" is not a driver; known are zmq_pubsub_driver, zmq_pubsub_multiproc_driver",
        ),
        (
            "publishers_ips = [\"fe80::1%eth0\"]",
            "\"fe80::1%eth0\": IPv6 zones are not supported (\"fe80::1%eth0\"); write an address that is valid on every link",
        ),
        (
            "publishers_ips = [1]",
            "1 is not a text; write it in quotes",
        ),
        (
            "reconnect_max = 0.05",
            "0.05 is below reconnect_min, which is 0.1",
        ),
    ] {
        let key = line.split(" = ").next().unwrap();
        let security = if key == "security" {
            ""
        } else {
            "security = \"none\""
        };
        let case = Case {
            files: &[("agent.toml", &format!("{security}\n\n{line}\n"))],
            ..Case::default()
        };
        assert_eq!(
            case.agent_faults(),
            [format!("agent.toml:3: {key}: {fault}")],
            "{line}"
        );
    }
}

#[test]
fn publisher_values_are_checked() {
    for (line, fault) in [
        (
            "publisher_id = \"x\"",
            "\"x\" is not empty, 32 hexadecimal digits, or a uuid",
        ),
        (
            "publisher_multiproc_socket = \"@x\"",
            "\"@x\": \"@x\" is not an absolute path; write for example ipc:///run/fanfare/publisher.sock",
        ),
        (
            "publisher_bind_address = \"api1\"",
            "\"api1\": \"api1\" cannot be bound; write an IP address of this host, or * for all of them",
        ),
        (
            "pub_sub_multiproc_driver = \"x\"",
            "\"x\" is not a driver; known are zmq_pubsub_driver, zmq_pubsub_multiproc_driver",
        ),
        (
            "publisher_uri = \"tcp://192.0.2.10:88666\"",
            "\"tcp://192.0.2.10:88666\": \"88666\" is not a port; write a number from 1 to 65535",
        ),
        (
            "publisher_uri = \"tcp://*:8866\"",
            "\"tcp://*:8866\": \"*\" is only for binding; write the address of a publisher",
        ),
        (
            "publisher_uri = \"ipc:///run/p.sock\"",
            "\"ipc:///run/p.sock\": is a unix socket, and publisher_transport is not ipc",
        ),
        (
            "topics = []",
            "unknown key; the nearest known one is `peers`",
        ),
    ] {
        let key = line.split(" = ").next().unwrap();
        let case = Case {
            files: &[("publisher.toml", line)],
            sets: &[NONE],
            ..Case::default()
        };
        assert_eq!(
            case.publisher_faults(),
            [format!("publisher.toml:1: {key}: {fault}")],
            "{line}"
        );
    }
    let case = Case {
        files: &[("publisher.toml", "publisher_transport = \"epgm\"")],
        sets: &[NONE],
        ..Case::default()
    };
    assert_eq!(
        case.publisher_faults(),
        [
            "built-in default: publisher_bind_address: \"*\": \"*\" names no multicast group; write epgm://interface;group:port, for example epgm://10.0.0.1;239.192.1.1:8866"
        ]
    );
}

#[test]
fn where_agents_reach_a_publisher_is_completed() {
    for (uri, bind, told) in [
        ("", "*", None),
        ("api1", "*", Some("tcp://api1:8866")),
        ("tcp://[fd00::1]:99", "*", Some("tcp://[fd00::1]:99")),
        // What it binds need not go by publisher_transport.
        (
            "/run/p.sock",
            "ipc:///run/p.sock",
            Some("ipc:///run/p.sock"),
        ),
    ] {
        let case = Case {
            sets: &[
                NONE,
                "sync_port=0",
                &format!("publisher_uri={uri:?}"),
                &format!("publisher_bind_address={bind}"),
            ],
            ..Case::default()
        };
        let config = case.load(load_publisher).unwrap();
        let read = config.told.as_ref().map(ToString::to_string);
        assert_eq!(read.as_deref(), told, "{uri}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let case = Case {
        files: &[("a.toml", "x = = 1")],
        named: &["none.toml", "a.toml"],
        sets: &[NONE],
        ..Case::default()
    };
    assert_eq!(
        case.agent_faults(),
        [
            "none.toml: No such file or directory (os error 2)",
            "a.toml:1: invalid string; expected `\"`, `'`",
        ]
    );
    let case = Case {
        files: &[("conf.d/a.toml/x", ""), ("agent.toml/x", "")],
        sets: &[NONE],
        ..Case::default()
    };
    assert_eq!(
        case.agent_faults(),
        [
            "agent.toml: Is a directory (os error 21)",
            "conf.d/a.toml: Is a directory (os error 21)",
        ]
    );
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_no_text_is_a_fault() {
    use std::os::unix::ffi::OsStringExt;
    let registry = registry();
    let sources = Sources {
        env: vec![(
            "FANFARE_STATE_DIR".into(),
            std::ffi::OsString::from_vec(vec![b'/', 0xff]),
        )],
        sets: vec![NONE.into()],
        ..Sources::default()
    };
    let faults = load_agent(&sources, &known(&registry)).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "FANFARE_STATE_DIR: state_dir: is not UTF-8"
    );
}

#[test]
fn a_fault_is_one_line_whatever_it_holds() {
    let case = Case {
        files: &[("agent.toml", "\"a\\nb\\u001b\" = 1")],
        sets: &[NONE],
        ..Case::default()
    };
    let faults = case.agent_faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].starts_with("agent.toml: a; b\\u{1b}: unknown key; "),
        "{faults:?}"
    );
}
