import { describe, expect, it } from 'vitest';
import { summarizeOutput } from './output-summary.ts';

const CAUSE = 'manifest for registry.example/media/web:9.9 not found: manifest unknown';

describe('the summary of a program’s output', () => {
  it('states the error of a pull once, though compose prints it for each service and the client prints it again', () => {
    // As `docker compose --ansi never --progress plain pull` prints it, with two services of one image.
    const output = [
      ' worker Skipped - Image is already being pulled by web ',
      ' db Pulling ',
      ' web Pulling ',
      ` web Error ${CAUSE}: manifest unknown`,
      ` db Error ${CAUSE}: manifest unknown`,
      `Error response from daemon: ${CAUSE}: manifest unknown`,
      '',
    ].join('\n');
    expect(summarizeOutput(output)).toBe(`Error response from daemon: ${CAUSE}`);
  });

  it('states the error of a registry that does not answer once', () => {
    const refused = 'Get "http://127.0.0.1:5055/v2/": dial tcp 127.0.0.1:5055: connect: connection refused';
    const output = ` db Pulling \n db Error ${refused}\nError response from daemon: ${refused}\n`;
    expect(summarizeOutput(output)).toBe(`Error response from daemon: ${refused}`);
  });

  it('keeps errors that differ, the newest last', () => {
    const output = ' web Error denied\n db Error not found\nError response from daemon: denied\n';
    expect(summarizeOutput(output)).toBe('db Error not found / Error response from daemon: denied');
  });

  it('repeats no line of any program, and shows at most three', () => {
    expect(summarizeOutput('a\nb\nretrying\nretrying\r\nretrying\nc\n')).toBe('b / retrying / c');
  });

  it('shows progress if a program printed nothing else', () => {
    expect(summarizeOutput(' web Pulling \n')).toBe('web Pulling');
  });

  it('is short, and says so if there was no output', () => {
    expect(summarizeOutput('x'.repeat(4096))).toHaveLength(500);
    expect(summarizeOutput('\n \n')).toBe('it printed nothing');
  });
});
