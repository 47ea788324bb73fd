import { parseArgs } from 'node:util';
import { Refused } from '../../protocol/refusal.ts';
import { bad, examine, type Finding, good } from '../diagnostics/doctor.ts';
import { AGENT_OPTIONS, ask, socketOf } from './local-client.ts';
import { REMOTE_OPTIONS, remoteOf } from './remote.ts';

/** Looks at everything that an agent needs, and says what to do about what is wrong. */
export async function doctor(args: string[]): Promise<number> {
  const { config, json } = AGENT_OPTIONS;
  const { values } = parseArgs({ args, options: { config, json, ...REMOTE_OPTIONS } });
  const findings: Finding[] = (await remoteOf(values)?.ask({ about: 'doctor' })) ?? (await here(values.config));
  if (values.json) console.log(JSON.stringify(findings, null, 2));
  else for (const one of findings) console.log(lineOf(one));
  return findings.some(({ state }) => state === 'bad') ? 1 : 0;
}

function here(file: string): Promise<Finding[]> {
  return examine(file, async config => {
    try {
      await ask(socketOf({ config: file }), 'GET', '/runs?limit=1');
      return good('the agent', `runs, and answers at its socket in ${config.state_dir}`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return bad(
        'the agent',
        `${error.code}: ${error.message}`,
        'Start it: systemctl start chatops-agent, or chatops agent --config FILE.',
      );
    }
  });
}

function lineOf({ check, state, says, remedy }: Finding): string {
  const mark = { good: '✓', bad: '✗', skipped: '–' }[state];
  return `${mark} ${check}: ${says}${remedy === undefined ? '' : `\n    ${remedy}`}`;
}
