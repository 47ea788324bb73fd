import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeOption, formatUsage, listOptions } from './command-spec.ts';
import { SHOWN_COMMANDS } from './commands.ts';

describe('the manual page', () => {
  const { stdout } = spawnSync(process.execPath, [join(import.meta.dirname, '../cli.ts'), 'man'], { encoding: 'utf8' });
  const text = stdout.replaceAll('\\-', '-').replaceAll('...', '…').replaceAll('\\e', '\\');

  it('has the usage of every command, and what each option does', () => {
    for (const command of SHOWN_COMMANDS) {
      expect(text).toContain(`.SS ${command.name}\n.B ${formatUsage(command)}\n`);
      for (const option of listOptions(command)) expect(text).toContain(`\n${describeOption(option)}\n`);
    }
  });

  it('names every environment variable with its option', () => {
    const variables = SHOWN_COMMANDS.flatMap(listOptions).flatMap(({ name, variable }) =>
      variable === undefined ? [] : [`.B ${variable}\nThe value of --${name} if that is not given.`],
    );
    expect(new Set(variables).size).toBe(4);
    for (const lines of variables) expect(text).toContain(lines);
  });
});
