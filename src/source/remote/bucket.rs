//! Objects in buckets and containers, by the `object_store` crate: S3, Google Cloud Storage, Azure Blob Storage. Who asks,
//! which endpoint, region and proxy come from each service's usual environment variables.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, RetryConfig,
};

use super::engine::{AGENT, CONNECT, SILENCE, use_ring};
use super::trouble::{Failure, of_body, of_store};
use super::{Identity, Listed, Piece};
use crate::error::{Error, Result};
use crate::source::address::{Service, split};

/// What would help where S3 refuses.
const AWS_LOGIN: &str = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, \
                         or AWS_SKIP_SIGNATURE=true for a public bucket";
const GOOGLE_LOGIN: &str = "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, \
                            or GOOGLE_SKIP_SIGNATURE=true for a public bucket";
const AZURE_LOGIN: &str = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or \
                           AZURE_STORAGE_SAS_TOKEN, or AZURE_SKIP_SIGNATURE=true for a public container";

/// Stores by service and bucket.
type Stores = HashMap<(Service, String), Arc<dyn ObjectStore>>;

/// Those that have been set up.
static STORES: LazyLock<Mutex<Stores>> = LazyLock::new(Mutex::default);

/// An object in a bucket.
#[derive(Debug)]
pub(super) struct BucketObject {
    store: Arc<dyn ObjectStore>,
    key: Key,
    login: &'static str,
}

impl BucketObject {
    /// The object at `address` (`s3://bucket/key`).
    pub(super) fn new(service: Service, address: &str) -> Result<Self> {
        let (bucket, key) = parts(address);
        let key = Key::parse(key).map_err(|_| Error::unsupported("is no valid name of an object"))?;
        let (store, login) = store(service, bucket)?;
        Ok(BucketObject { store, key, login })
    }

    /// Asks for a part. What is known of the object makes a part of another one an error.
    pub(super) async fn get(&self, range: &Range<u64>, known: Option<&Identity>) -> Result<Piece, Failure> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: known.and_then(|known| known.tag.clone()),
            ..GetOptions::default()
        };
        match self.store.get_opts(&self.key, options).await {
            Ok(result) => {
                let identity = Identity { len: result.meta.size, tag: result.meta.e_tag.clone() };
                Ok(Piece::Object { identity, body: Box::new(result) })
            }
            Err(e) if known.is_none() && self.is_empty(&e).await => Ok(Piece::Empty),
            Err(e) => Err(of_store(&e, self.login)),
        }
    }

    /// Whether a part could not be had because there are no bytes.
    async fn is_empty(&self, e: &object_store::Error) -> bool {
        matches!(e, object_store::Error::Generic { .. })
            && self.store.head(&self.key).await.is_ok_and(|meta| meta.size == 0)
    }
}

/// What lies directly below the prefix `address`, in the order of the names.
pub(super) async fn list(service: Service, address: &str) -> Result<Vec<Listed>, Failure> {
    let (bucket, key) = parts(address);
    let (store, login) = store(service, bucket).map_err(Failure::last)?;
    let prefix = Key::parse(key).map_err(|_| Failure::last(Error::unsupported("is no valid prefix")))?;
    let found = store.list_with_delimiter(Some(&prefix)).await.map_err(|e| of_store(&e, login))?;
    let name = |key: &Key| key.filename().unwrap_or_default().to_owned();
    let folders = found.common_prefixes.iter().map(|key| Listed { name: name(key), bytes: None });
    let files = found.objects.iter().map(|meta| Listed { name: name(&meta.location), bytes: Some(meta.size) });
    let mut all: Vec<Listed> = folders.chain(files).filter(|listed| !listed.name.is_empty()).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Bucket and key; the slash at the end of a prefix is no part of it.
fn parts(address: &str) -> (&str, &str) {
    let rest = split(address).map_or(address, |(_, rest)| rest);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (bucket, key.trim_end_matches('/'))
}

/// The store of a bucket, and what would help where it refuses.
fn store(service: Service, bucket: &str) -> Result<(Arc<dyn ObjectStore>, &'static str)> {
    use_ring();
    let login = match service {
        Service::Google => GOOGLE_LOGIN,
        Service::Azure => AZURE_LOGIN,
        _ => AWS_LOGIN,
    };
    if bucket.is_empty() {
        return Err(Error::unsupported("names no bucket"));
    }
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(&(service, bucket.to_owned())) {
        return Ok((Arc::clone(store), login));
    }
    let made = make(service, bucket).map_err(|e| of_store(&e, login).error)?;
    stores.insert((service, bucket.to_owned()), Arc::clone(&made));
    Ok((made, login))
}

fn make(service: Service, bucket: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let client = ClientOptions::new().with_connect_timeout(CONNECT).with_read_timeout(SILENCE).with_timeout_disabled();
    let client = match AGENT.parse() {
        Ok(agent) => client.with_user_agent(agent),
        Err(_) => client,
    };
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() },
        max_retries: 5,
        retry_timeout: Duration::from_secs(60),
    };
    // an endpoint that somebody names is as safe as they say
    let is_plain =
        |names: &[&str]| names.iter().any(|name| std::env::var(name).is_ok_and(|value| value.starts_with("http://")));
    Ok(match service {
        Service::Google => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            Arc::new(builder.with_client_options(client).with_retry(retry).build()?)
        }
        Service::Azure => {
            let client = client.with_allow_http(is_plain(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]));
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            Arc::new(builder.with_client_options(client).with_retry(retry).build()?)
        }
        _ => {
            let client = client.with_allow_http(is_plain(&["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]));
            let builder = super::profile::with_profile(AmazonS3Builder::from_env().with_bucket_name(bucket));
            Arc::new(builder.with_client_options(client).with_retry(retry).build()?)
        }
    })
}

/// The bytes of a part, as they come.
pub(super) async fn chunks(body: GetResult, mut take: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut stream = body.into_stream();
    while let Some(chunk) = next(&mut stream).await {
        take(&chunk.map_err(|e| of_body(&e))?)?;
    }
    Ok(())
}

/// The next of a stream.
async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context)).await
}
