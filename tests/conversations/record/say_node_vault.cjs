// What a workload does with node-vault. Run by the recorder: see ../README.md.
// ADDRESS is the recording wire; TOKEN_* and the like are of the recording's cast.
'use strict';

const cast = process.env;
const vault = require('node-vault')({ endpoint: cast.ADDRESS });
console.log('node-vault', require('node-vault/package.json').version);

// A refusal is an answer like any other.
const call = (promise) => promise.catch(() => null);

async function main() {
  vault.token = '';
  await call(vault.health());
  await call(vault.status());
  await call(vault.leader());
  await call(vault.initialized());
  await call(vault.read('secret/data/desk/one'));
  await call(vault.tokenLookupSelf());

  vault.token = cast.TOKEN_APP;
  for (const name of ['one', 'odd', 'twice', 'deleted', 'destroyed', 'absent', 'folder/inner', 'private/one']) {
    await call(vault.read(`secret/data/desk/${name}`));
  }
  await call(vault.read('secret/data/desk/twice?version=1'));
  await call(vault.read('secret/data/desk/twice?version=9'));
  for (const name of ['twice', 'deleted', 'absent']) {
    await call(vault.read(`secret/metadata/desk/${name}`));
  }
  for (const name of ['secret/metadata/desk', 'secret/metadata/desk/folder/', 'secret/metadata/desk/absent', 'plain/desk', 'plain/desk/absent']) {
    await call(vault.list(name));
  }
  await call(vault.read('secret/metadata/desk?list=1'));
  await call(vault.read('plain/desk/one'));
  await call(vault.read('plain/desk/absent'));
  await call(vault.help('secret/data/desk/one'));

  const lease = await call(vault.generateDatabaseCredentials({ databasePath: 'database', name: 'orders' }))
    || await call(vault.read('database/creds/orders'));
  await call(vault.renew({ lease_id: lease.lease_id }));
  await call(vault.renew({ lease_id: lease.lease_id, increment: 600 }));
  await call(vault.revoke({ lease_id: lease.lease_id }));
  await call(vault.renew({ lease_id: lease.lease_id }));

  await call(vault.tokenLookupSelf());
  await call(vault.tokenLookup({ token: cast.TOKEN_NARROW }));
  await call(vault.tokenLookup({ token: cast.TOKEN_DEAD }));
  await call(vault.tokenLookup({ token: cast.TOKEN_UNKNOWN }));
  await call(vault.tokenLookupAccessor({ accessor: cast.ACCESSOR_NARROW }));
  await call(vault.tokenLookupAccessor({ accessor: cast.ACCESSOR_DEAD }));
  await call(vault.tokenRenewSelf());
  await call(vault.tokenRenewSelf({ increment: 3600 }));
  await call(vault.tokenLookupSelf());
  await call(vault.write('sys/capabilities-self', { paths: ['secret/data/desk/one', 'database/creds/orders'] }));

  // Creating a token and logging in leave the new token behind in the client.
  const create = async (call_, args) => {
    const made = await call(call_(args));
    vault.token = cast.TOKEN_APP;
    return made;
  };
  const child = await create(vault.tokenCreate, { ttl: '10m', policies: ['default'] });
  const text = child ? child.auth.client_token : cast.TOKEN_UNKNOWN;
  await call(vault.tokenLookup({ token: text }));
  await call(vault.tokenRenew({ token: text, increment: 600 }));
  await call(vault.tokenRevoke({ token: text }));
  await call(vault.tokenLookup({ token: text }));
  await create(vault.tokenCreate, { ttl: '10m', meta: { shift: 'late' }, display_name: 'desk' });
  await create(vault.tokenCreateRole, { role_name: 'orders', ttl: '10m' });
  await create(vault.tokenCreateOrphan, { ttl: '10m' });
  await call(vault.tokenRevoke({ token: cast.TOKEN_FALLEN }));
  await call(vault.tokenRevokeAccessor({ accessor: cast.ACCESSOR_DROPPED }));

  const login = { role_id: cast.APPROLE_ROLE_ID, secret_id: cast.APPROLE_SECRET_ID };
  await call(vault.approleLogin(login));
  await call(vault.read('secret/data/desk/one'));
  await call(vault.tokenLookupSelf());
  vault.token = cast.TOKEN_APP;
  await create(vault.approleLogin, { ...login, secret_id: 'wrong' });
  await create(vault.userpassLogin, { username: 'clerk', password: 'not-a-secret' });

  await call(vault.mounts());
  await call(vault.policies());
  await call(vault.auths());
  await call(vault.tokenRoles());
  await call(vault.read('no-such-mount/x'));

  await call(vault.write('secret/data/elsewhere/written', { data: { color: 'blue' } }));
  await call(vault.update('secret/data/elsewhere/written', { data: { size: 'small' } }));
  await call(vault.delete('secret/data/elsewhere/written'));
  await call(vault.delete('secret/metadata/elsewhere/written'));
  await call(vault.write('secret/data/desk/one', { data: { color: 'blue' } }));

  vault.token = cast.TOKEN_NARROW;
  await call(vault.read('secret/data/desk/one'));
  await call(vault.list('secret/metadata/desk'));
  await call(vault.tokenLookupSelf());

  for (const token of [cast.TOKEN_DEAD, cast.TOKEN_UNKNOWN]) {
    vault.token = token;
    await call(vault.read('secret/data/desk/one'));
    await call(vault.tokenLookupSelf());
  }

  vault.token = cast.TOKEN_LEAVER;
  await call(vault.tokenRevokeSelf());
  await call(vault.tokenLookupSelf());
}

main();
