//! Ports that no other test uses, of this process or of another.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use fanfare::util::lock_file::LockFile;

/// A port kept for as long as this lives. It lies below the range from which the kernel takes
/// ports for outgoing connections, so that a peer can leave it and come back.
pub struct Port {
    pub number: u16,
    _lock: LockFile,
}

const FIRST: u16 = 14_000;
const COUNT: u16 = 16_000;

impl Port {
    pub fn free() -> Port {
        Port::free_at(Ipv4Addr::LOCALHOST.into())
    }

    pub fn free_at(address: IpAddr) -> Port {
        let start = fastrand::u16(0..COUNT);
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            let path = std::env::temp_dir().join(format!("fanfare-test-port-{number}.lock"));
            if let Ok(lock) = LockFile::acquire(&path)
                && TcpListener::bind((address, number)).is_ok()
            {
                return Port {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port");
    }

    pub fn uri(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.number)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let path = std::env::temp_dir().join(format!("fanfare-test-port-{}.lock", self.number));
        // Two tests may then lock a file of this name each, but the port is bound or not.
        let _ = std::fs::remove_file(path);
    }
}
