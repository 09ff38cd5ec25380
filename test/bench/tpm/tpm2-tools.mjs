import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const EK = '0x81010001';
const SRK = '0x81000001';
/** Not that of the other contestants, whose keys stay. */
const IDENTITY = '0x81000200';

/** What a shell script does: a process for every step. */
export class ToolsContestant {
  #tcti;
  #folder;

  constructor(tcti, folder) {
    this.#tcti = tcti;
    this.#folder = folder;
  }

  async keys() {
    for (const [handle, name] of [
      [EK, 'ek'],
      [SRK, 'srk'],
    ]) {
      await this.#tool('tpm2_readpublic', '-Q', '-c', handle, '-f', 'tss', '-o', this.#file(name));
    }
    const read = (name) => readFileSync(this.#file(name)).toString('base64');
    return { endorsementKey: read('ek'), storageRootKey: read('srk') };
  }

  async activate([credential, secret, wrapped, seed, publicArea]) {
    const file = (name) => this.#file(name);
    writeFileSync(file('credential'), Buffer.concat([Buffer.from('badcc0de00000001', 'hex'), credential, secret]));
    writeFileSync(file('wrapped'), wrapped);
    writeFileSync(file('seed'), seed);
    writeFileSync(file('public'), publicArea);
    const session = ['-S', file('session')];
    await this.#tool('tpm2_startauthsession', '--policy-session', ...session);
    await this.#tool('tpm2_policysecret', '-Q', ...session, '-c', 'e');
    const auth = ['-P', `session:${file('session')}`];
    const inner = ['-i', file('credential'), '-o', file('inner')];
    await this.#tool('tpm2_activatecredential', '-Q', '-c', SRK, '-C', EK, ...inner, ...auth);
    await this.#tool('tpm2_flushcontext', file('session'));
    const parts = ['-u', file('public'), '-i', file('wrapped'), '-s', file('seed'), '-k', file('inner')];
    await this.#tool('tpm2_import', '-Q', '-C', SRK, ...parts, '-r', file('private'));
    const key = ['-u', file('public'), '-r', file('private'), '-c', file('key')];
    await this.#tool('tpm2_load', '-Q', '-C', SRK, ...key);
    await this.#tool('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', IDENTITY).catch(() => undefined);
    await this.#tool('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', file('key'), IDENTITY);
    await this.#tool('tpm2_flushcontext', '-t');
  }

  /** Hex. */
  async sign(text) {
    writeFileSync(this.#file('text'), text);
    await this.#tool('tpm2_hmac', '-Q', '-c', IDENTITY, '-o', this.#file('mac'), this.#file('text'));
    return readFileSync(this.#file('mac')).toString('hex');
  }

  #file(name) {
    return join(this.#folder, name);
  }

  #tool(name, ...parameters) {
    return run(name, parameters, { env: { ...process.env, TPM2TOOLS_TCTI: this.#tcti, TSS2_LOG: 'all+NONE' } });
  }
}
