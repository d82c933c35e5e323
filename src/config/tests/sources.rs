use super::*;

#[test]
fn the_defaults_are_those_operators_know() {
    let agent = Case {
        sets: &[NONE],
        ..Case::default()
    }
    .agent();
    assert_eq!(agent.pub_sub_driver, "zmq_pubsub_driver");
    assert_eq!(agent.publishers[0].to_string(), "tcp://127.0.0.1:8866");
    assert_eq!(agent.publishers.len(), 1);
    assert_eq!(agent.publisher_transport, Transport::Tcp);
    assert_eq!(agent.subscriptions(), ["D"]);
    assert_eq!(agent.security, Security::None);
    assert_eq!(agent.state_dir, Path::new("/var/lib/fanfare"));
    assert_eq!(agent.run_dir, Path::new("/run/fanfare"));
    assert_eq!(agent.reconnect_min, Duration::from_millis(100));
    assert_eq!(agent.db_sync_time, Duration::from_secs(60));
    assert_eq!(agent.stop_timeout, Duration::from_millis(1500));
    assert_eq!(agent.max_message_size, 4 << 20);
    assert_eq!(agent.receive_hwm, 100_000);
    assert_eq!((agent.queue_length, agent.queue_bytes), (1024, 8 << 20));
    assert_eq!(
        agent.warnings(),
        [
            r#"security = "none": events travel in plain text, and anyone who reaches the port can send and read them"#,
            "no [[handler]] is configured: events are received and not used",
        ]
    );
    let publisher = Case {
        sets: &[NONE],
        ..Case::default()
    }
    .load(load_publisher)
    .unwrap();
    assert_eq!(publisher.publisher_id, None);
    assert_eq!(publisher.bind.to_string(), "tcp://*:8866");
    assert_eq!(
        publisher.publisher_multiproc_socket,
        Path::new("/run/fanfare/publisher.sock")
    );
    assert_eq!(publisher.publisher_timeout, Duration::from_secs(300));
    assert_eq!(publisher.monitor_table_poll_time, Duration::from_secs(30));
    assert!(publisher.pub_sub_use_multiproc);
    assert_eq!(publisher.warnings().len(), 1);
}

/// One more topic than a publisher's default has room for, and the agent would be cut off for ever.
#[test]
fn more_topics_than_a_publisher_lets_in_are_told() {
    let warnings = |topics: usize| {
        let topics: Vec<String> = (0..topics).map(|n| format!("t{n}")).collect();
        let agent = Case {
            sets: &[NONE, &format!("topics={topics:?}")],
            ..Case::default()
        };
        agent.agent().warnings()
    };
    let said = |topics| warnings(topics).iter().any(|w| w.starts_with("topics: "));
    assert!(!said(4998));
    assert!(said(4999), "{:?}", warnings(4999));
}

#[test]
fn nothing_is_open_unless_the_operator_writes_it() {
    // By default sockets are secured, and where there are no keys nothing starts.
    let case = Case {
        sets: &[
            "node_key=/nowhere/n",
            "publisher_keys={ '*' = '/nowhere/p' }",
        ],
        ..Case::default()
    };
    let agent = case.load(load_agent).unwrap();
    assert_eq!(agent.security, Security::Curve);
    let faults = agent.keys().unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key).collect();
    assert_eq!(keys, ["publisher_keys", "node_key"]);
    let case = Case {
        sets: &["publisher_key=/nowhere/p", "authorized_keys=/nowhere/a"],
        ..Case::default()
    };
    let publisher = case.load(load_publisher).unwrap();
    assert_eq!(publisher.security, Security::Curve);
    assert_eq!(publisher.keys().unwrap_err().len(), 2);
    // Nothing secures multicast.
    let case = Case {
        sets: &["publishers_ips=[\"epgm://127.0.0.1;239.192.1.2:5556\"]"],
        ..Case::default()
    };
    let faults = case.agent_faults();
    assert!(
        faults[0].contains("is multicast, which nothing secures"),
        "{faults:?}"
    );
}

#[test]
fn a_secret_key_in_the_wrong_place_is_not_shown() {
    let secret = "secret:0123456789012345678901234567890123456789";
    for set in [
        format!("node_key={secret}"),
        format!("publisher_keys={{ '*' = '{secret}' }}"),
        format!("publisher_keys={secret}"),
    ] {
        let case = Case {
            sets: &[&set],
            ..Case::default()
        };
        let faults = case.agent_faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(!faults[0].contains("012345"), "{faults:?}");
    }
}

#[test]
fn later_sources_win() {
    let files = &[
        ("agent.toml", "publisher_port = 1\nsecurity = \"none\""),
        ("conf.d/b.toml", "publisher_port = 3"),
        (
            "conf.d/a.toml",
            "publisher_port = 2\ntopics = [\"a\", \"D\"]",
        ),
        ("conf.d/.hidden.toml", "publisher_port = 9"),
        ("conf.d/c.toml~", "publisher_port = 9"),
        ("x.toml", "publisher_port = 4\nsecurity = \"none\""),
        ("y.toml", "publisher_port = 5"),
    ];
    let env: &[(&str, &str)] = &[("FANFARE_PUBLISHER_PORT", "6"), ("PUBLISHER_PORT", "9")];
    for (named, env, sets, port) in [
        (&[][..], &[][..], &[][..], 3),
        (&["x.toml"], &[], &[], 4),
        (&["x.toml", "y.toml"], &[], &[], 5),
        (&["y.toml", "x.toml"], &[], &[], 4),
        (&[], env, &[], 6),
        (&["x.toml"], env, &["publisher_port=7"], 7),
        (&[], env, &["publisher_port = 7", "publisher_port=8"], 8),
    ] {
        let case = Case {
            files,
            named,
            env,
            sets,
        };
        let agent = case.agent();
        assert_eq!(agent.publisher_port, port, "{named:?} {env:?} {sets:?}");
        let topics: &[&str] = if named.is_empty() {
            &["D", "a"]
        } else {
            &["D"]
        };
        assert_eq!(agent.subscriptions(), topics);
    }
}

#[test]
fn environment_and_command_line_take_toml_or_bare_words() {
    let agent = Case {
        env: &[
            ("FANFARE_SECURITY", "none"),
            ("FANFARE_TOPICS", r#"["a", 'b']"#),
            ("FANFARE_PUBLISHERS_IPS", r#"["::1", "[fd00::1]:1", "h"]"#),
            ("FANFARE_LOG_LEVEL", r#""info,fanfare=debug""#),
            ("FANFARE_MAX_IDLE_TIME", "7"),
            ("FANFARE_HANDLER", r#"[{module = "log"}]"#),
            // The publisher's key: both read this environment.
            ("FANFARE_PUBLISHER_BIND_ADDRESS", "10.0.0.1"),
        ],
        sets: &[
            "state_dir=/tmp/x=y",
            "run_dir = \"/tmp/r\"",
            "enable_selective_topology_distribution=false",
        ],
        ..Case::default()
    }
    .agent();
    assert_eq!(agent.topics, ["a", "b"]);
    assert_eq!(agent.subscriptions(), ["D"], "not selective");
    let uris: Vec<String> = agent.publishers.iter().map(|p| p.to_string()).collect();
    assert_eq!(
        uris,
        ["tcp://[::1]:8866", "tcp://[fd00::1]:1", "tcp://h:8866"]
    );
    assert_eq!(agent.log_level, "info,fanfare=debug");
    assert_eq!(agent.max_idle_time, Duration::from_secs(7));
    assert_eq!(agent.state_dir, Path::new("/tmp/x=y"));
    assert_eq!(agent.run_dir, Path::new("/tmp/r"));
    assert_eq!(agent.handler[0].name, "log");

    let id = "12345678901234567890123456789012";
    let set = format!("publisher_id={id}");
    let publisher = Case {
        sets: &[NONE, &set, "publisher_bind_address=fd00::1"],
        ..Case::default()
    }
    .load(load_publisher)
    .unwrap();
    assert_eq!(publisher.publisher_id.unwrap()[0], 0x12);
    assert_eq!(publisher.bind.to_string(), "tcp://[fd00::1]:8866");
}

#[test]
fn transports_decide_what_an_entry_means() {
    let agent = Case {
        sets: &[
            NONE,
            "publisher_transport=epgm",
            "publisher_port=5555",
            r#"publishers_ips=["10.0.0.0/24;239.192.1.1", "tcp://h", "h:1", "tcp://h:5555"]"#,
        ],
        ..Case::default()
    };
    assert_eq!(
        agent.agent_faults(),
        [
            "--set: publishers_ips: \"h:1\": \"h:1\" names no multicast group; write epgm://interface;group:port, for example epgm://10.0.0.1;239.192.1.1:8866"
        ]
    );
    let agent = Case {
        sets: &[
            NONE,
            "publisher_transport=ipc",
            r#"publishers_ips=["/run/a.sock", "tcp://h:1", "tcp://H:1", "memory://m"]"#,
        ],
        ..Case::default()
    }
    .agent();
    assert_eq!(agent.publishers.len(), 3);
    assert_eq!(agent.publishers[0].to_string(), "ipc:///run/a.sock");
    assert!(
        agent
            .warnings()
            .contains(&"publishers_ips lists tcp://h:1 more than once".to_owned())
    );
    assert!(matches!(
        &agent.publishers[1],
        crate::pubsub::endpoint::Endpoint::Tcp { host: Host::Name(name), port: 1 } if name == "h"
    ));
}

#[test]
fn a_later_source_mends_an_earlier_one() {
    let case = Case {
        files: &[(
            "agent.toml",
            "security = \"none\"\npublisher_port = 99999\n[[handler]]\nmodule = \"nothing\"",
        )],
        sets: &["publisher_port=1", "handler=[]"],
        ..Case::default()
    };
    assert_eq!(case.agent().publisher_port, 1);
}

#[test]
fn a_command_of_the_exec_module_may_call_a_program() {
    let given = [
        ("FANFARE_ACTION", "set"),
        ("FANFARE_TABLE", "t"),
        ("FANFARE_KEY", "k"),
        ("FANFARE_TOPIC", "D"),
        ("FANFARE_SYNC", "false"),
    ];
    let case = |env| Case {
        env,
        sets: &[NONE],
        ..Case::default()
    };
    case(&given).agent();
    assert_eq!(
        case(&[("FANFARE_TOPIC", "D")]).agent_faults(),
        ["FANFARE_TOPIC: topic: unknown key; did you mean `topics`?"]
    );
}

#[test]
fn the_packaged_files_uncommented_are_the_defaults() {
    let uncommented = |text: String| -> String {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key.to_owned(),
            _ => line.to_owned(),
        });
        lines.map(|line| line + "\n").collect()
    };
    let agent = uncommented(doc::agent_toml());
    let publisher = uncommented(doc::publisher_toml());
    let files: &[(&str, &str)] = &[("agent.toml", &agent), ("publisher.toml", &publisher)];
    for key in AGENT_KEYS {
        assert!(
            agent.contains(&format!("\n{} = ", key.name)),
            "{}",
            key.name
        );
    }
    for key in PUBLISHER_KEYS {
        assert!(
            publisher.contains(&format!("\n{} = ", key.name)),
            "{}",
            key.name
        );
    }
    let with = |files| Case {
        files,
        sets: &[NONE],
        ..Case::default()
    };
    let agent = |files| format!("{:?}", with(files).agent());
    assert_eq!(agent(files), agent(&[]));
    let publisher = |files| format!("{:?}", with(files).load(load_publisher).unwrap());
    assert_eq!(publisher(files), publisher(&[]));
}

#[test]
fn every_word_of_a_choice_has_a_value() {
    let choices = |keys: &'static [Key]| {
        let words = keys.iter().filter_map(|key| match key.kind {
            Kind::Choice(words) => Some((key.name, words)),
            _ => None,
        });
        words.flat_map(|(name, words)| words.iter().map(move |word| format!("{name}={word}")))
    };
    let unread = |faults: Option<Vec<String>>| {
        let lines = faults.into_iter().flatten();
        lines.filter(|line| line.contains("cannot be read")).count()
    };
    for set in choices(AGENT_KEYS).chain(choices(PUBLISHER_KEYS)) {
        let case = Case {
            sets: &[&set],
            ..Case::default()
        };
        assert_eq!(unread(case.load(load_agent).err()), 0, "{set}");
        assert_eq!(unread(case.load(load_publisher).err()), 0, "{set}");
    }
}
