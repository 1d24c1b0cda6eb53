//! Clients of the S3 servers in the tests, in this process and in child processes.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
};

/// The bucket that every test server has.
pub const BUCKET: &str = "test";
/// Access key that the test servers accept.
pub const ACCESS_KEY: &str = "key";
/// Its secret.
pub const SECRET_KEY: &str = "secret";
const REGION: &str = "us-east-1";

/// A client of the server at `endpoint`: path style, plain HTTP, impatient.
pub fn s3(endpoint: &str) -> Arc<AmazonS3> {
    // The TLS library asks for its provider even if no connection uses TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_region(REGION)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_client_options(ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(3)))
        .with_retry(impatient());
    Arc::new(builder.build().unwrap())
}

fn impatient() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(5) }
}

/// What a child process needs in its environment to use the server at `endpoint`.
pub fn env(endpoint: &str) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "127.0.0.1"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
