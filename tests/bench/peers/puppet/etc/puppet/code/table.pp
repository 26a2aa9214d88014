exec { '/usr/sbin/postmap hash:/etc/postfix/recipients':
  unless => '/usr/bin/test /etc/postfix/recipients.db -nt /etc/postfix/recipients',
}
