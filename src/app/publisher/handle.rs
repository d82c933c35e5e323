//! How an API worker publishes, whatever the configuration says of it.

use std::ops::Deref;
use std::time::{Duration, Instant};

use super::wire::{Front, Wired, own_path};
use crate::config::PublisherConfig;
use crate::publisher::client::{ClientOptions, PublisherClient, Summary};

/// Why a process cannot publish by itself; the address, the state or the configuration must be
/// mended, or the process that has them be stopped.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish from this process: {0}")]
pub struct OpenError(String);

/// Publishes as `pub_sub_use_multiproc` says; used as the [`PublisherClient`] that it is.
///
/// * `true`: events are handed to the publisher service of this host. Any number of processes may.
/// * `false`: this process binds the network address itself, through `pub_sub_driver`. It does all
///   that the service does, on threads of its own: versions, stamps, the journal and rows in
///   `state_dir`, hellos, the lease and the monitored tables. So events are acknowledged under the
///   same promise, and agents notice no difference, not even when a host goes from one to the
///   other. Only one process of a host can have the address; the second is refused with the
///   number of the first.
///
/// ```no_run
/// # use std::time::Duration;
/// # use fanfare::app::publisher::PublisherHandle;
/// # use fanfare::config::{Known, Sources, load_publisher};
/// # use fanfare::event::Event;
/// # use fanfare::handler::registry::Registry;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let modules = Registry::builtin();
/// let sources = Sources::system(Vec::new(), Vec::new());
/// let config = load_publisher(&sources, &Known::new(&modules))?;
/// let publisher = PublisherHandle::open(&config)?;
/// publisher.publish(&Event::set("lport", "p1", "{}").on("tenant1"), None)?;
/// assert_eq!(publisher.flush(Duration::from_secs(5))?.pending, 0);
/// # Ok(())
/// # }
/// ```
///
/// A server that forks its workers opens it after the fork: with `false` it has threads and sockets
/// from the start. Dropping it does what [`PublisherHandle::close`] does.
pub struct PublisherHandle {
    // Dropped first, so that what it waits for is still taken.
    client: PublisherClient,
    own: Option<Own>,
}

/// The service within this process.
struct Own {
    wired: Wired,
    stop_timeout: Duration,
}

impl PublisherHandle {
    /// Publishes as `config` says, with the client's defaults.
    ///
    /// # Errors
    /// With `pub_sub_use_multiproc = false` when the address is taken or the state cannot be opened.
    pub fn open(config: &PublisherConfig) -> Result<Self, OpenError> {
        let options = ClientOptions::beside(&config.publisher_multiproc_socket);
        Self::open_with(config, options)
    }

    /// The same with other options of the client, whose socket is not looked at where this process
    /// publishes by itself.
    ///
    /// # Errors
    /// Those of [`PublisherHandle::open`].
    pub fn open_with(config: &PublisherConfig, options: ClientOptions) -> Result<Self, OpenError> {
        if config.pub_sub_use_multiproc {
            return Ok(Self::through(options));
        }
        let context = zmq::Context::new();
        let wired = Wired::new(config, &context, Front::Process)
            .map_err(|error| OpenError(error.to_string()))?;
        let options = ClientOptions {
            socket: own_path(config),
            ..options
        };
        Ok(PublisherHandle {
            client: PublisherClient::with_context(options, &context),
            own: Some(Own {
                wired,
                stop_timeout: config.stop_timeout,
            }),
        })
    }

    /// Hands events to the service whose request socket `options` name.
    pub fn through(options: ClientOptions) -> Self {
        PublisherHandle {
            client: PublisherClient::new(options),
            own: None,
        }
    }

    /// Whether this process publishes by itself.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Waits at most the options' `linger` for acknowledgements and ends; what this process
    /// publishes by itself is given at most `stop_timeout` more to reach the agents.
    pub fn close(self) -> Summary {
        self.client.close()
    }
}

impl Deref for PublisherHandle {
    type Target = PublisherClient;

    fn deref(&self) -> &PublisherClient {
        &self.client
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.wired.stop_by(Instant::now() + self.stop_timeout) {
            log::error!("not everything ended within {:?}", self.stop_timeout);
        }
    }
}
