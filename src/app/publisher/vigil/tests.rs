use super::*;
use crate::app::publisher::wire::Front;
use crate::config::{Known, Sources, load_publisher};
use crate::handler::registry::Registry;
use crate::pubsub::driver::zmq::curve;
use crate::security::file::write_pair;
use crate::security::key::SecretKey;
use crate::util::testing::within;

const PATIENCE: Duration = Duration::from_secs(20);

fn port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

fn config(folder: &std::path::Path) -> PublisherConfig {
    config_with(folder, "security = \"none\"\n")
}

fn config_with(folder: &std::path::Path, security: &str) -> PublisherConfig {
    let at = |name: &str| folder.join(name).display().to_string();
    let file = folder.join("publisher.toml");
    let text = format!(
        "{security}publisher_transport = \"tcp\"\npublisher_bind_address = \"127.0.0.1\"\n\
         publisher_port = {}\nsync_port = {}\npeers = [\"127.0.0.1:{}\"]\nnb_store = \"memory\"\nstate_dir = {:?}\nrun_dir = {:?}\n\
         publisher_multiproc_socket = {:?}\nsocket_group = \"\"\n",
        port(),
        port(),
        port(),
        at("state"),
        at("run"),
        at("workers"),
    );
    std::fs::write(&file, text).unwrap();
    let sources = Sources {
        files: vec![file],
        ..Sources::default()
    };
    load_publisher(&sources, &Known::new(&Registry::builtin())).unwrap()
}

/// Waits for a reason that has these words; gives how it is then.
#[track_caller]
fn says(vigil: &mut Vigil, wired: &Wired, config: &PublisherConfig, words: &str) -> Health {
    let until = Instant::now() + PATIENCE;
    loop {
        let health = vigil.look(wired, config, Instant::now());
        if health.reasons.iter().any(|reason| reason.contains(words)) {
            return health;
        }
        assert!(Instant::now() < until, "{health:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Such a thread ends by a panic: libzmq's binding has them for error numbers that it does not know.
#[test]
fn a_thread_that_ended_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut wired = Wired::new(&config, &zmq::Context::new(), Front::Workers).unwrap();
    let mut vigil = Vigil::new(&wired, Instant::now());
    let health = vigil.look(&wired, &config, Instant::now());
    assert_eq!((health.reasons.as_slice(), health.stuck), (&[][..], 0));

    wired.requests().unwrap().break_down();
    let health = says(&mut vigil, &wired, &config, "the request socket");
    assert_eq!((health.reasons.len(), health.stuck), (1, 1));
    wired.sync().unwrap().break_down();
    let health = says(&mut vigil, &wired, &config, "the sync service");
    assert_eq!((health.reasons.len(), health.stuck), (2, 2));
    wired.following().unwrap().break_down();
    let health = says(&mut vigil, &wired, &config, "other publishers");
    assert_eq!((health.reasons.len(), health.stuck), (3, 3));
    wired.stop_by(Instant::now() + PATIENCE);
}

/// Else its rows are gone and it says "publishing".
#[test]
fn a_state_that_was_begun_anew_is_told_until_the_operator_knows() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::create_dir(&config.state_dir).unwrap();
    let path = config.state_dir.join("publisher.redb");
    std::fs::write(&path, b"something else\n".repeat(2000)).unwrap();
    let reasons = || {
        let mut wired = Wired::new(&config, &zmq::Context::new(), Front::Workers).unwrap();
        let mut vigil = Vigil::new(&wired, Instant::now());
        let health = vigil.look(&wired, &config, Instant::now());
        let anew = wired.service().metrics.state_begun_anew.get();
        wired.stop_by(Instant::now() + PATIENCE);
        // No restart mends it.
        assert_eq!(health.stuck, 0);
        (anew, health.reasons)
    };
    for _ in 0..2 {
        let (anew, reasons) = reasons();
        assert_eq!((anew, reasons.len()), (1, 1), "{reasons:?}");
        assert!(reasons[0].contains("begun anew"), "{reasons:?}");
    }
    for entry in std::fs::read_dir(&config.state_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.display().to_string().contains(".corrupt-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(reasons(), (0, Vec::new()));
}

/// Who is to be shut out is not, while all else goes on.
#[test]
fn keys_that_cannot_be_looked_at_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let secret = SecretKey::random().unwrap();
    let public = curve::public_key(&secret).unwrap();
    let [_, key] = write_pair(folder.path(), "p", &public, &secret, false).unwrap();
    let authorized = folder.path().join("authorized");
    std::fs::create_dir(&authorized).unwrap();
    let security = format!(
        "publisher_key = {:?}\nauthorized_keys = {:?}\npeer_keys = {{ \"*\" = \"{public}\" }}\n",
        key.display().to_string(),
        authorized.display().to_string()
    );
    let config = config_with(folder.path(), &security);
    let mut wired = Wired::new(&config, &zmq::Context::new(), Front::Workers).unwrap();
    let mut vigil = Vigil::new(&wired, Instant::now());
    let health = vigil.look(&wired, &config, Instant::now());
    assert_eq!(health.reasons, [""; 0]);
    let kept = folder.path().join("kept");
    std::fs::rename(&authorized, &kept).unwrap();
    wired.look_at_keys();
    let health = says(&mut vigil, &wired, &config, "authorized_keys cannot be");
    // No restart mends it.
    assert_eq!((health.reasons.len(), health.stuck), (1, 0));
    std::fs::rename(&kept, &authorized).unwrap();
    wired.look_at_keys();
    within("it is over", || {
        let health = vigil.look(&wired, &config, Instant::now());
        health.reasons.is_empty()
    });
    wired.stop_by(Instant::now() + PATIENCE);
}
