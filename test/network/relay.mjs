/* Leads from an address and ports to another: relay.mjs ADDRESS PORT,... TARGET-ADDRESS TARGET-PORT */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const [host, ports = '', targetHost, targetPort] = process.argv.slice(2);
for (const port of ports.split(',')) {
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ host: targetHost, port: Number(targetPort), noDelay: true });
    near.pipe(far).pipe(near);
    near.once('close', () => far.destroy()).on('error', () => far.destroy());
    far.once('close', () => near.destroy()).on('error', () => near.destroy());
  });
  await once(server.listen(Number(port), host), 'listening');
}
console.log('ready');
