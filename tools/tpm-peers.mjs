// Microsoft's TPM client, for the interop tests and the bench: pinned in tools/tpm-peers/, installed by `npm run rig` into
// .rig/tpm-peers/. It is no development dependency, because a plain install of it fails: see its package.json here.
//   node tools/tpm-peers.mjs --missing   names it, unless it is there
//   node tools/tpm-peers.mjs --install   installs it, unless it is there
import { PinnedPackages, supply } from './pinned-packages.mjs';

const packages = new PinnedPackages('tpm-peers');
const names = Object.entries(packages.dependencies).map(([name, version]) => `${name} ${version}`);

supply(packages, { what: 'packages', names, size: '34 MB' });
