import { parseArgs } from 'node:util';
import type { ArgumentSpec, OptionSpec } from './command-spec.ts';
import { type CommandName, selectCommands } from './commands.ts';

/** A command with the values of its arguments and options. */
export interface Call {
  name: CommandName;
  args: unknown[];
  options: Record<string, unknown>;
}

/**
 * Parses a correct command line by the table of commands. Returns undefined for anything else: a wrong call or a request for
 * help, which commander explains. Node's own parser costs nothing at start; commander would slow down every command.
 */
export function parseCall([word = '', ...rest]: readonly string[]): Call | undefined {
  const commands = selectCommands(word);
  const parsed = parse(
    rest,
    commands.flatMap<OptionSpec>(({ options = [] }) => options),
  );
  if (!parsed) return undefined;
  const { values, positionals } = parsed;
  const isGroup = commands.some(({ name }) => name !== word);
  const command = commands.find(({ name }) => name === (isGroup ? `${word} ${positionals[0] ?? ''}` : word));
  if (!command) return undefined;
  const args = readArguments(isGroup ? positionals.slice(1) : positionals, command.arguments ?? []);
  const options = readOptions(values, command.options ?? []);
  return args && options && { name: command.name as CommandName, args, options };
}

type Values = Record<string, string | boolean | (string | boolean)[] | undefined>;

function parse(args: string[], specs: OptionSpec[]): { values: Values; positionals: string[] } | undefined {
  const options = specs.map(({ name, short, value, repeatable = false }) => [
    name,
    {
      type: value === undefined ? 'boolean' : 'string',
      multiple: repeatable,
      ...(short === undefined ? {} : { short }),
    },
  ]);
  try {
    return parseArgs({ args, allowPositionals: true, options: Object.fromEntries(options) });
  } catch {
    return undefined;
  }
}

function readArguments(texts: string[], specs: readonly ArgumentSpec[]): unknown[] | undefined {
  const isVariadic = specs.at(-1)?.variadic === true;
  const required = specs.filter(({ optional }) => !optional).length;
  if (texts.length < required || (texts.length > specs.length && !isVariadic)) return undefined;
  if (specs.some(({ choices }, index) => choices && !choices.includes(texts[index] ?? ''))) return undefined;
  return specs.map(({ variadic }, index) => (variadic ? texts.slice(index) : texts[index]));
}

function readOptions(values: Values, specs: readonly OptionSpec[]): Record<string, unknown> | undefined {
  const isUnknown = Object.keys(values).some(name => !specs.some(spec => spec.name === name));
  const isWrong = specs.some(({ name, required, choices }) => {
    const value = values[name];
    return value === undefined ? required : choices && !choices.includes(String(value));
  });
  if (isUnknown || isWrong) return undefined;
  return Object.fromEntries(specs.map(spec => [spec.name, values[spec.name] ?? initialValue(spec)]));
}

/** Returns the value of an option that is not given. */
export function initialValue({ value, repeatable, ...spec }: Omit<OptionSpec, 'name' | 'text'>): unknown {
  if (value === undefined) return false;
  return repeatable ? [] : spec.default;
}
