//! hvac, over a Unix-socket adapter.

use harness::client::cli::User;
use harness::{Context, Result};

use crate::Client;
use crate::seen::Seen;

/// hvac.
pub(crate) struct Hvac;

impl Client for Hvac {
    async fn calls(&self, user: &User, billing: &str) -> Result<Seen> {
        let script = format!("BILLING = {billing:?}\n{SCRIPT}");
        let said = user.python(&script).await?.success().context("hvac")?;
        serde_json::from_str(&said).context(format!("hvac's answer {said:?}"))
    }
}

const SCRIPT: &str = "
vault = client()
secret = vault.secrets.kv.v2.read_secret_version('shop/orders/item-0000', raise_on_deleted_version=True)
keys = vault.secrets.kv.v2.list_secrets('shop/orders')
lease = vault.secrets.database.generate_credentials('orders')
token = vault.auth.token.lookup_self()
try:
    renewed = vault.auth.token.renew_self()['auth']['lease_duration']
except hvac.exceptions.InvalidRequest as refused:
    assert 'not renewable' in str(refused), str(refused)
    renewed = None
own = 'secret/data/shop/orders/item-0000'
capabilities = vault.sys.get_capabilities([own, BILLING])
print(json.dumps({
    'password': secret['data']['data']['password'],
    'warnings': secret['warnings'] or [],
    'keys': keys['data']['keys'],
    'username': lease['data']['username'],
    'database_password': lease['data']['password'],
    'lease_id': lease['lease_id'],
    'lease_duration': lease['lease_duration'],
    'id': token['data']['id'],
    'policies': token['data']['policies'],
    'ttl': token['data']['ttl'],
    'renewed': renewed,
    'capabilities': capabilities[own],
    'foreign': capabilities[BILLING],
}))
";
