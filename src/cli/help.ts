import { EXIT_MEANINGS, type ExitStatus } from './exit-codes.js';
import { type CommandSpec, credentialName, environmentName, type OptionSpec } from './option-spec.js';

const HELP_FLAG: OptionSpec = { name: 'help', kind: 'switch', help: 'Print this text (-h).' };
const SECRET_PLACES = `Secrets never are flags' values. They are looked for in this order: a file named by a flag, the
text in the environment, a file named in the environment (DPS_..._FILE), a systemd credential (in
$CREDENTIALS_DIRECTORY), a file named in the configuration. Such files must be of mode 0600.`;
const COLUMNS = 100;
const INDENT = 6;

/** What `dps-device <command> --help` prints. */
export function commandHelp(spec: CommandSpec): string {
  const title = `dps-device ${spec.command}: ${spec.summary}`;
  const usage = `Usage: dps-device ${spec.command} [options]`;
  const options = [...spec.options, HELP_FLAG].map(describeOption).join('\n');
  return `${[title, usage, `Options:\n${options}`, ...describeSecrets(spec), spec.notes, exitStatusHelp(spec.exitStatuses)].join('\n\n')}\n`;
}

/** The table of exit statuses, or of some of them. */
export function exitStatusHelp(statuses?: readonly ExitStatus[]): string {
  const rows = Object.entries(EXIT_MEANINGS)
    .filter(([status]) => statuses?.some((wanted) => String(wanted) === status) ?? true)
    .map(([status, meaning]) => `  ${status.padStart(3)}  ${meaning}`);
  return `Exit statuses:\n${rows.join('\n')}`;
}

function describeOption({ name, kind, placeholder, help }: OptionSpec): string {
  const value = kind === 'switch' ? '' : ` ${typeof kind === 'object' ? kind.join('|') : (placeholder ?? 'VALUE')}`;
  return `  --${name}${value}\n${wrap(help, INDENT)}`;
}

function describeSecrets({ secrets }: CommandSpec): string[] {
  if (secrets.length === 0) return [];
  const rows = secrets.map(
    ({ name }) => `  --${`${name}-file`.padEnd(29)} ${environmentName(name).padEnd(28)} ${credentialName(name)}`,
  );
  return [`${SECRET_PLACES}\n${rows.join('\n')}`];
}

function wrap(text: string, indent: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((each) => `${' '.repeat(indent)}${each}`).join('\n');
}
