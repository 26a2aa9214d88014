/etc/postfix/main.cf:
  file.managed:
    - source: /usr/local/share/postfix/main.cf
    - user: root
    - group: root
    - mode: '0644'

newaliases:
  cmd.run:
    - onchanges:
      - file: /etc/postfix/main.cf

postfix:
  service.running:
    - watch:
      - file: /etc/postfix/main.cf
    - require:
      - cmd: newaliases
