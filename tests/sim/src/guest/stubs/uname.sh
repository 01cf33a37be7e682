#!/bin/sh
case "$*" in
  -r) echo 4.19.90-2112.8.0.0131.oe1.smartx.x86_64 ;;
  -m|-p|-i) echo x86_64 ;;
  -n) echo localhost.localdomain ;;
  -a) echo 'Linux localhost.localdomain 4.19.90-2112.8.0.0131.oe1.smartx.x86_64 #1 SMP x86_64 x86_64 x86_64 GNU/Linux' ;;
  *) echo Linux ;;
esac
