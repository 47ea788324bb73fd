import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { listOptions } from './command-spec.ts';
import { SHOWN_COMMANDS } from './commands.ts';

const PROGRAM = join(import.meta.dirname, '../cli.ts');
const scriptFor = (shell: string) =>
  spawnSync(process.execPath, [PROGRAM, 'completion', shell], { encoding: 'utf8' }).stdout;

describe('completion', () => {
  it.each(['bash', 'zsh', 'fish'])('in %s has every command and option of the table, and no hidden one', shell => {
    const words = new Set(scriptFor(shell).split(/[\s"'()]+/));
    for (const command of SHOWN_COMMANDS)
      for (const word of [...command.name.split(' '), ...listOptions(command).map(({ name }) => `--${name}`)])
        expect(words).toContain(word);
    for (const word of ['keeper', 'proxmox', '--github-api']) expect(words).not.toContain(word);
  });

  it('in bash offers subcommands, their own options, and the choices of an option', () => {
    const script = `${scriptFor('bash')}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _chatops; echo "\${COMPREPLY[@]}"`;
    const complete = (...words: string[]) =>
      spawnSync('bash', ['-c', script, 'bash', 'chatops', ...words], { encoding: 'utf8', cwd: '/' }).stdout.trim();
    expect({
      command: complete('rollb'),
      subcommand: complete('key', 'r'),
      ownOption: complete('key', 'add', '--'),
      choice: complete('init', '--repository', 'a/b', '--profile', ''),
      shell: complete('completion', ''),
    }).toEqual({
      command: 'rollback',
      subcommand: 'remove rotate',
      ownOption: '--entry --config --json --help',
      choice: 'dual keyless offline',
      shell: 'bash zsh fish --help',
    });
  });
});
