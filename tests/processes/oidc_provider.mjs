// A real OpenID Connect provider on loopback (npm's oidc-provider), with its own login page: any
// name logs in, and is the email address of whoever it is.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(`${process.argv[2]}/`);
const { default: Provider } = await import(require.resolve('oidc-provider'));

const server = createServer().listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'relay',
      client_secret: 'a-secret-of-the-desk',
      redirect_uris: [process.argv[3]],
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: `sub of ${id}`, email: id, email_verified: !id.startsWith('unverified') }),
    }),
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
