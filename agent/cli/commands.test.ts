import { describe, expect, it } from 'vitest';
import { type CommandSpec, describeOption, formatCall, formatUsage } from './command-spec.ts';
import { COMMANDS, GROUPS, SHOWN_COMMANDS, selectCommands } from './commands.ts';

const all: readonly CommandSpec[] = COMMANDS;

describe('the table of commands', () => {
  it('names each command once, and each option once per command', () => {
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
    for (const { name, options = [] } of all)
      expect({ name, options: new Set(options.map(one => one.name)).size }).toEqual({ name, options: options.length });
  });

  it('has a text for every group, and no group that is a command too', () => {
    const groups = new Set(all.flatMap(({ name }) => (name.includes(' ') ? [name.split(' ')[0]] : [])));
    expect(Object.keys(GROUPS).sort()).toEqual([...groups].sort());
    for (const word of Object.keys(GROUPS)) expect(all.map(({ name }) => name)).not.toContain(word);
  });

  it('has texts of one line without a full stop, and options that are sentences', () => {
    for (const { text, options = [], arguments: args = [] } of all) {
      expect(text).toMatch(/^[a-z].{10,75}[^.]$/);
      for (const { text: sentence } of [...options, ...args]) expect(sentence).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('lets only the last argument be optional or take several values', () => {
    for (const { arguments: args = [] } of all)
      for (const argument of args.slice(0, -1)) expect(argument).not.toMatchObject({ optional: true });
  });

  it('shows all commands except those that only the agent calls', () => {
    const shown = SHOWN_COMMANDS.map(({ name }) => name);
    expect(all.map(({ name }) => name).filter(name => !shown.includes(name))).toEqual(['keeper', 'proxmox']);
  });

  it('selects a command by its first word, and all subcommands of a group', () => {
    const namesOf = (word: string) => selectCommands(word).map(({ name }) => name);
    expect({ run: namesOf('run'), audit: namesOf('audit'), none: namesOf('') }).toEqual({
      run: ['run'],
      audit: ['audit export', 'audit verify'],
      none: [],
    });
  });
});

describe('a command as text', () => {
  const command: CommandSpec = {
    name: 'key add',
    text: 'add a key',
    arguments: [
      { name: 'KEY', text: 'A key.' },
      { name: 'FILE', text: 'Files.', optional: true, variadic: true },
    ],
    options: [
      { name: 'entry', value: 'NAME', text: 'An entry.', required: true },
      { name: 'label', value: 'NAME', text: 'A label.', repeatable: true },
      { name: 'secret', text: 'Hidden.', hidden: true },
      { name: 'json', text: 'Shared.', group: 'Output:' },
    ],
  };

  it('is a call with what is required, or a usage with its own options', () => {
    expect({ call: formatCall(command), usage: formatUsage(command) }).toEqual({
      call: 'key add KEY [FILE …] --entry NAME',
      usage: 'key add KEY [FILE …] --entry NAME [--label NAME …]',
    });
  });

  it('describes an option with its choices, default and variable', () => {
    const option = {
      name: 'x',
      value: 'X',
      text: 'A thing.',
      choices: ['a', 'b'],
      default: 'a',
      variable: 'CHATOPS_X',
    };
    expect(describeOption(option)).toBe('A thing. One of: a, b. Default: a. Environment: CHATOPS_X.');
  });
});
