"""Who logs in on the machines with Cockpit.

Apart from what makes such machines: tools/demo needs the password, and may import no agent.
"""

# anna may do all by sudo, dora may read the journal, bob neither.
PEOPLE = {"anna": "sudo", "dora": "adm", "bob": ""}
PASSWORD = "correct horse"
